"""Keys of a profile that change how a real llama-server loads a model, and drafts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from engines.plans import plan_in
from lmxd_process import Lmxd, post
from loading import lines_of_load

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.command import command
from lmxd.engines.llama_cpp.load_mode import spelled

Make = Callable[..., Lmxd]
SAID_TWICE = "The quick brown fox jumps over the lazy dog while the small grey cat sleeps in the warm sun. " * 12


@pytest.mark.parametrize("ngram", ["simple", "mod"])
def test_a_model_drafts_from_its_own_text(lmxd: Make, ngram: str) -> None:
    flags = ["--spec-ngram-mod-n-min", 4, "--spec-ngram-mod-n-match", 16] if ngram == "mod" else []
    with lmxd(profile={"ngram": ngram, "engine_flags": flags}) as running, running.client() as client:
        table = client.estimate("smollm2").host["compute"]
        assert table > 4 * 49 * 49152, "the outputs of 48 tokens and of the next"
        lease = client.request("smollm2")
        body = {"prompt": SAID_TWICE, "n_predict": 64, "temperature": 0}
        assert post(lease, "/completion", body)["timings"]["draft_n_accepted"] > 0


@pytest.mark.parametrize("mode", ["mmap", "none", "mlock", "mmap+mlock", "dio"])
def test_a_model_is_read_in_each_way(lmxd: Make, mode: str) -> None:
    with lmxd(profile={"load_mode": mode}) as running, running.client() as client:
        lease = client.request("smollm2")
        assert post(lease, "/completion", {"prompt": "One, two,", "n_predict": 2})["tokens_predicted"] == 2
        (instance,) = client.instances().instances
        words = Path(f"/proc/{instance.pid}/cmdline").read_text().split("\0")
        assert list(spelled(probe(find(None)).knows, ["--load-mode", mode]))[-1] in words


def test_flags_that_older_builds_had_for_it_are_still_understood(lmxd: Make) -> None:
    with lmxd(profile={"engine_flags": ["--no-mmap"], "n_cpu_ffn": 4}) as running, running.client() as client:
        lease = client.request("smollm2")
        assert post(lease, "/completion", {"prompt": "One, two,", "n_predict": 2})["tokens_predicted"] == 2


def test_threads_are_those_that_the_engine_takes_by_itself(smollm2: Path, tmp_path: Path) -> None:
    binary = probe(find(None))
    plan = replace(plan_in(tmp_path), model=smollm2, gpus=(), threads=None, flags=())
    alone = [str(binary.path), "-m", str(smollm2), "-c", "512", "--port", "0", "-dev", "none", "-lv", "4"]
    assert threads(command(binary, plan).argv) == threads(alone) != []


def threads(argv: Sequence[str]) -> list[str]:
    """The numbers of threads that a server says while it loads."""
    return re.findall(r"n_threads(?:_batch)? = \d+", "".join(lines_of_load(argv)))
