"""lmxctl as scripts and people use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from forked import Forked, run
from groups import commands_of
from lmxd_process import Lmxd, ask, lease_from

from lmxd import __version__
from lmxd.cli.main import main

Make = Callable[..., Lmxd]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> object:
    config = {
        "gpu": {"device": "host", "max_memory_gb": 0.5},
        "models": {
            "smollm2": {"path": str(smollm2), "context_length": 2048},
            "llama-3.1-8b": {"context_length": 4096, "estimated_memory_gb": 2.2},
        },
    }
    with Lmxd(tmp_path_factory.mktemp("ctl"), config) as daemon:
        yield daemon


def test_request_and_release_in_a_shell_script(running: Lmxd) -> None:
    script = """
        set -e
        eval "$(lmxctl request --shell smollm2)"
        trap 'lmxctl release' EXIT
        curl -sS --unix-socket "$LMXD_ENDPOINT_SOCKET" -H "Authorization: Bearer $OPENAI_API_KEY" \
            "$OPENAI_BASE_URL/models"
        lmxctl touch
        trap - EXIT
        lmxctl release "$LMXD_LEASE"
    """
    done = subprocess.run(["sh", "-c", script], env=running.ctl_env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"][0]["id"] == "smollm2"


def shown(running: Lmxd, *words: str) -> str:
    """The output of a command, run in this process: a second one that begins is no part of what it shows."""
    done = CliRunner().invoke(main, ["--socket", str(running.socket), *words], terminal_width=200)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_view_in_both_forms(running: Lmxd) -> None:
    lease = lease_from(running.json("request", "smollm2"))
    try:
        for command, expected in {
            "status": f"lmxd {__version__}, up for",
            "ps": f"{lease.instance}  ready",
            "queue": "nobody waits",
            "devices": "HEADROOM",
            "models": "llama-3.1-8b",
            "version": f"lmxctl {__version__}",
        }.items():
            done = running.lmxctl(command)
            assert done.returncode == 0, done.stderr
            assert expected in done.stdout
            assert json.loads(shown(running, command, "--json"))
        why = shown(running, "why", "host")
        assert f"{lease.instance} " in why
        assert "promised to nobody" in why
        named = json.loads(shown(running, "why", "host", "--json"))["processes"]
        assert named, "the test itself is a process in RAM"
        assert running.lmxctl("why", "gpu7").returncode == 64
        assert lease.lease in shown(running, "ps")
        assert lease.api_key not in shown(running, "ps", "--json"), "keys are for the holder"
        assert "listening on" in shown(running, "logs", lease.instance)
    finally:
        assert running.lmxctl("release", lease.lease).returncode == 0


def test_run_passes_environment_exit_status_and_signals(running: Lmxd) -> None:
    done = running.lmxctl("run", "smollm2", "--", "sh", "-c", 'echo "$OPENAI_BASE_URL $LMXD_MODEL"; exit 7')
    assert done.returncode == 7
    assert done.stdout.endswith("/v1 smollm2\n")
    script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    child = Forked(
        running.command("run", "smollm2", "--", "sh", "-c", script),
        env=running.ctl_env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGUSR1)
    assert child.communicate(timeout=20)[0] == "told\n"
    assert child.returncode == 9
    running.until(lambda: not any(i.leases for i in running.instances().values()))


def test_run_passes_a_signal_that_comes_as_the_command_begins(running: Lmxd) -> None:
    script = "trap 'exit 9' USR1; kill -USR1 $PPID; while :; do sleep 0.05; done"
    for _ in range(5):
        assert running.lmxctl("run", "smollm2", "--", "sh", "-c", script).returncode == 9


def test_run_ends_with_the_signal_that_ended_the_command(running: Lmxd) -> None:
    assert running.lmxctl("run", "smollm2", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert running.lmxctl("run", "smollm2", "--", "/no/such/program").returncode == 64


EXITS = [
    (["request", "nope"], 64, "there is no model 'nope'"),
    (["request"], 64, "Missing argument 'MODEL'"),
    (["request", "smollm2", "--ctx", "many"], 64, "'many' is not a valid integer"),
    (["request", "smollm2", "--ctx", "999999"], 64, "trained for 8192 tokens"),
    (["request", "smollm2", "--wait", "5", "--no-wait"], 64, "exclude each other"),
    (["request", "smollm2", "--ttl", "5"], 64, "ttl is 5, but hold is explicit"),
    (["request", "smollm2", "--slots", "200"], 75, "there is never more than 0.50 GiB"),
    (["request", "llama-3.1-8b"], 78, "set models.llama-3.1-8b.path"),
    (["release", "l-nope"], 64, "there is no lease l-nope"),
    (["touch", "l-nope"], 64, "there is no lease l-nope"),
    (["cancel", "t-nope"], 64, "there is no request t-nope"),
    (["stop", "x#1"], 64, "there is no instance x#1"),
    (["logs", "../../etc/passwd"], 64, "there is no instance"),
    (["frobnicate"], 64, "No such command 'frobnicate'"),
    (["estimate", "/no/such.gguf"], 78, "No such file"),
    (["estimate", __file__.replace(".py", ".gguf")], 78, "No such file"),
]


@pytest.mark.parametrize(("words", "status", "message"), EXITS, ids=[" ".join(e[0]) for e in EXITS])
def test_exit_statuses_by_sysexits(running: Lmxd, words: list[str], status: int, message: str) -> None:
    done = running.lmxctl(*words)
    assert done.returncode == status, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_in_json_has_code_and_figures(running: Lmxd) -> None:
    done = running.lmxctl("request", "smollm2", "--slots", "200", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "never_fits"
    assert error["shortfalls"][0]["need"] > error["shortfalls"][0]["ceiling"]
    assert "would fit" in error["remedy"]


def test_no_wait_without_room_exits_75(running: Lmxd) -> None:
    leases = [lease_from(running.json("request", "smollm2")) for _ in range(2)]
    try:
        done = running.lmxctl("request", "smollm2", "--no-wait")
        assert done.returncode == 75
        assert leases[0].instance in done.stderr, "who has the memory"
        done = running.lmxctl("request", "smollm2", "--wait", "0.3")
        assert done.returncode == 75
    finally:
        for lease in leases:
            running.lmxctl("release", lease.lease)


def test_queue_and_cancel(running: Lmxd) -> None:
    leases = [lease_from(running.json("request", "smollm2")) for _ in range(2)]
    waits = Forked(running.command("request", "smollm2"), env=running.ctl_env, stderr=subprocess.PIPE, text=True)
    try:
        running.until(lambda: running.json("queue")["tickets"])
        (ticket,) = running.json("queue")["tickets"]
        assert ticket["position"] == 1
        shown = running.lmxctl("queue").stdout
        assert any(f"waits for {lease.instance}" in shown for lease in leases), shown
        assert running.lmxctl("cancel", ticket["ticket"]).returncode == 0
        assert waits.wait(10) == 75
        assert "cancelled" in waits.communicate()[1]
    finally:
        for lease in leases:
            running.lmxctl("release", lease.lease)


def test_stop_ends_an_instance(running: Lmxd) -> None:
    lease = lease_from(running.json("request", "smollm2"))
    assert running.lmxctl("stop", lease.instance).returncode == 0
    running.until(lambda: lease.instance not in running.instances())
    done = running.lmxctl("touch", lease.lease)
    assert done.returncode == 64
    assert "stopped_by_admin" in done.stderr
    assert "listening on" in running.lmxctl("logs", lease.instance).stdout, "its log is still there"


def test_estimates_of_a_profile_and_of_a_file(running: Lmxd, smollm2: Path) -> None:
    profile = running.json("estimate", "smollm2")
    assert profile["host"]["kv"] == 45 * 2**20
    assert profile["devices"] == []
    found = running.json("estimate", str(smollm2), "--ctx", "8192", "--slots", "2", "--cache-type", "q8_0")
    assert found["host"]["kv"] == 2 * 180 * 2**20 * 34 // 64
    assert found["host"]["total"] == sum(v for k, v in found["host"].items() if k != "total")
    assert (found["ctx"], found["slots"], found["basis"]) == (8192, 2, "closed-form")
    shown = running.lmxctl("estimate", str(smollm2)).stdout
    for word in ("weights", "kv", "compute", "overhead", "total", "host MiB", "plus or minus", "fits: largest context"):
        assert word in shown


def without_a_daemon(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"LMXD_SOCKET": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "lmxd.cli.main", "estimate", *words]
    return run(command, env=env)


def test_a_file_is_estimated_without_a_daemon_and_without_a_gpu(smollm2: Path, tmp_path: Path) -> None:
    flags = "-c 8192 -np 1 -ctk q8_0 -ctv q8_0 -ub 2048 -fa on"
    cards = ["--as-gpu", "NVIDIA H100 80GB HBM3"]
    found = json.loads(without_a_daemon(tmp_path, str(smollm2), *cards, "--flags", flags, "--json").stdout)
    (device,) = found["devices"]
    assert list(device) == [
        "device", "weights", "kv", "state", "compute", "projector", "adapter", "overhead", "total",
    ]  # fmt: skip
    assert device["device"] == "NVIDIA H100 80GB HBM3"
    assert device["weights"] > 90 * 2**20
    assert device["kv"] == pytest.approx(180 * 2**20 * 34 // 64, rel=1e-3)
    assert found["fits"]["fewest_gpus"] == 1
    two = json.loads(without_a_daemon(tmp_path, str(smollm2), *cards, *cards, "--json").stdout)
    assert len(two["devices"]) == 2
    assert sum(d["kv"] for d in two["devices"]) == 90 * 2**20
    ram = json.loads(without_a_daemon(tmp_path, str(smollm2), *cards, "--flags", "-dev none -c 4096", "--json").stdout)
    assert ram["devices"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RTX 4090", "452 MiB of the process itself, plus or minus 48 MiB (prior of compute 8.9, 128 SMs)"),
        ("RTX 4070", "206 MiB of the process itself, plus or minus 48 MiB (prior of compute 8.9, 46 SMs)"),
        ("Tesla T4", "148 MiB of the process itself, plus or minus 96 MiB (prior of compute 7.5, 40 SMs)"),
        ("NVIDIA H100 80GB HBM3", "596 MiB of the process itself, plus or minus 8 MiB (prior of compute 9.0, 132 SMs)"),
        ("RX 7900 XTX", "410 MiB of the process itself, plus or minus 256 MiB (prior of ROCm"),
        ("Voodoo 5", "596 MiB of the process itself, plus or minus 480 MiB (prior of an H100"),
    ],
)
def test_the_context_of_a_card_that_is_not_here_is_shown_with_its_source(
    smollm2: Path, tmp_path: Path, name: str, said: str
) -> None:
    shown = without_a_daemon(tmp_path, str(smollm2), "--as-gpu", name, "--dry-run", "never").stdout
    assert f"overhead on {name}: {said}" in shown


def test_llama_server_itself_can_be_asked(smollm2: Path, tmp_path: Path) -> None:
    found = json.loads(without_a_daemon(tmp_path, str(smollm2), "--dry-run", "always", "--json").stdout)
    assert found["basis"] == "closed-form+dry-run"
    assert len(list((tmp_path / "cache/lmxd/dry-runs").iterdir())) == 1
    for engine in (["--engine", "/no/llama-server"],):
        done = without_a_daemon(tmp_path, str(smollm2), *engine)
        assert (done.returncode, "/no/llama-server" in done.stderr) == (78, True)


def test_a_directory_is_estimated_file_by_file(smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").symlink_to(smollm2)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    shown = without_a_daemon(tmp_path, str(tmp_path)).stdout
    assert "a.gguf" in shown
    assert "broken.gguf" in shown
    models = json.loads(without_a_daemon(tmp_path, str(tmp_path), "--json").stdout)["models"]
    assert [m.get("basis") for m in models] == ["closed-form", None]
    assert models[1]["error"] == "bad_model_file"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flags", "-c lots"], "--ctx-size 'lots'"),
        (["--flags", "-c 4096", "--ctx", "1"], "exclude each other"),
    ],
)
def test_what_cannot_be_estimated_is_a_usage_error(
    smollm2: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = without_a_daemon(tmp_path, str(smollm2), *words)
    assert done.returncode == 64
    assert message in done.stderr


def test_what_was_learned_is_listed_and_forgotten(running: Lmxd) -> None:
    lease = lease_from(running.json("request", "smollm2", "--ctx", "1792"))
    running.until(lambda: any(o["model"] == "smollm2" for o in running.json("estimates")["observed"]))
    assert "smollm2" in running.lmxctl("estimates").stdout
    assert any(o["loaded"] > 100 * 2**20 for o in running.json("estimates")["observed"])
    running.lmxctl("release", lease.lease)
    assert running.lmxctl("forget").returncode == 64
    assert running.json("forget", "smollm2")["count"] >= 1
    assert running.json("estimates")["observed"] == []


def test_no_daemon_exits_69(tmp_path: Path) -> None:
    env = os.environ | {"LMXD_SOCKET": str(tmp_path / "none")}
    for words in (["status"], ["request", "x"], ["ps", "--json"]):
        command = [sys.executable, "-m", "lmxd.cli.main", *words]
        done = run(command, env=env)
        assert done.returncode == 69
        assert "does not answer" in done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(running: Lmxd, shell: str) -> None:
    done = running.lmxctl("completion", shell)
    assert done.returncode == 0
    assert "_LMXCTL_COMPLETE" in done.stdout


def test_completion_knows_the_models(running: Lmxd) -> None:
    env = running.ctl_env | {"_LMXCTL_COMPLETE": "bash_complete", "COMP_WORDS": "lmxctl request smo", "COMP_CWORD": "2"}
    done = subprocess.run(["lmxctl"], env=env, capture_output=True, text=True, timeout=30)
    assert "smollm2" in done.stdout


def test_a_drain_waits_until_everything_has_ended(fake: Make) -> None:
    with fake() as lmxd:
        lmxd.json("request", "m", "--hold", "explicit")
        assert lmxd.lmxctl("drain", "--now").stdout == "draining: 0 instances and 0 leases are left\n"
        assert lmxd.instances() == {}
        assert lmxd.lmxctl("request", "m").returncode != 0
        assert lmxd.lmxctl("drain", "--end").stdout == "requests are admitted again\n"
        assert lmxd.json("request", "m", "--hold", "explicit")["model"] == "m"


def test_every_command_has_json_and_a_useful_help() -> None:
    known: dict[tuple[str, ...], click.Command] = {(name,): each for name, each in commands_of(main).items()}
    group = known.pop(("fleet",))
    assert isinstance(group, click.Group)
    known |= {("fleet", name): command for name, command in commands_of(group).items()}
    for words, command in known.items():
        shown = CliRunner().invoke(main, [*words, "--help"]).stdout
        assert command.help, words
        if words not in (("completion",), ("chat",)):  # a script and a talk
            assert "--json" in shown, words


def test_the_answer_is_real(running: Lmxd) -> None:
    lease = lease_from(running.json("request", "smollm2", "--hold", "ttl", "--ttl", "30"))
    assert "Paris" in ask(lease)
    assert running.json("touch", lease.lease, "--ttl", "60")["expires_in"] > 50
    running.lmxctl("release", lease.lease)
