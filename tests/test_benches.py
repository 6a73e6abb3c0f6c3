"""Every benchmark still runs: each as its users run it, in its shortest form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
SMALL = "smollm2:512:1"
ARENA = f"arena.py --host --traces alternate --swaps 2 --models {SMALL} --rivals {SMALL},{SMALL} --limit 0.3"
FORMS = {
    "admission.py --shortest": "p50 us",
    "simulate.py --shortest": "tick p50",
    "rpc_round_trips.py --shortest": "request and release of a running instance",
    "gateway_overhead.py --shortest": "CPU us/req",
    "fleet_gateway.py --shortest": "lmxd fleet gateway has",
    "storm.py --device host --requests 3 --servers 2": "3 requests at once: 0 out of memory",
    "suspend.py --shortest": "suspending",
    "elastic.py --shortest --alone": "80 of 80 answers are equal",
    "elastic.py --shortest --only static|unified": "unified: 80 of 80 answers are equal",
    "elastic.py --shape llama@small --random --alone --agents 1 --talks 1 --scale 16 --only e": "0 answers failed",
    "elastic_played.py --shortest": "bound",
    # large-model-proxy is not there, and is left out
    f"{ARENA} --managers lmxd,large-model-proxy": "longer than a load",
    "fleet_choosing.py --shortest": "first try",
    "fleet_agents.py --shortest": "all again",
    "fleet_crowd.py --shortest": "13 nodes: the gateway has",
    "fleet_storm.py --shortest": "double grants 0, lost leases 0",
    "walk.py": "from StartInstance to the argv",
    "commits.py --rounds 20": "on it, and onto the disk",
    "shared_pages.py --mib 8": "one is charged",
    "read_ahead.py --mib 4": "read, as lmxd does",
    "estimator.py speed": "warm, closed form",
    "estimator.py recorded": "within the bound",
    "estimator.py cpu 1": "within the bound",
    "estimator.py builds": "flags that lmxd does not know: none",
    "record_vllm.py list": "recorded: apertus, arcee",
    # without a GPU these can only say what they want
    "on_gpu.py --help": "Real launches on a real GPU",
    "beside.py --help": "Launches with files beside the model",
    "multi_gpu.py --help": "Two real GPUs",
    "engines_on_card.py --help": "share one card through lmxd",
    "sleep_on_card.py --help": "vLLM asleep, vLLM ended",
    "fit_auto.py --help": "Models that have no room as a whole",
    "shared_prefix.py --tiny --agents 2 --only gateway": "slots, lmxd's gateway",
    "repack.py --prompt 16 --answer 16 --trials 1": "of the answer's speed are lost",
}
PARTS = {
    "accuracy.py",
    "arena_managers.py",
    "arena_models.py",
    "arena_report.py",
    "arena_traces.py",
    "arena_watch.py",
    "background.py",
    "builds.py",
    "elastic_agents.py",
    "elastic_report.py",
    "elastic_sides.py",
    "elastic_trace.py",
    "elastic_trouble.py",
    "elastic_watch.py",
    "fast_server.py",
    "fleet_world.py",
    "http_load.py",
    "played_agents.py",
    "played_setting.py",
    "played_sharing.py",
    "random_weights.py",
    "shapes.py",
    "simple_policies.py",
    "simulated_traces.py",
    "simulated_world.py",
}
"""Modules that others import, and what gateway_overhead.py starts."""


@pytest.mark.timeout(600)  # a bench is work, and a machine may be slow
@pytest.mark.parametrize("form", FORMS)
def test_bench(form: str, tmp_path: Path) -> None:
    script, *words = form.split()
    command = [sys.executable, str(BENCH / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert FORMS[form] in done.stdout


def test_all_are_run() -> None:
    assert {form.split()[0] for form in FORMS} | PARTS == {path.name for path in BENCH.glob("*.py")}
