"""Two llama-servers by name in one daemon, both real: they answer at once, and every view says which is which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmxd_process import Lmxd, post

from lmxd.engines.llama_cpp.binary import find

Make = Callable[..., Lmxd]


def wrapper(directory: Path, name: str) -> Path:
    """A program of another name that is the real llama-server."""
    path = directory / name
    path.write_text(f'#!/bin/sh\nexec {find(None)} "$@"\n')
    path.chmod(0o755)
    return path


def test_two_engines_answer_at_once_and_all_views_say_which(lmxd: Make, tmp_path: Path, smollm2: Path) -> None:
    model = {"path": str(smollm2), "context_length": 512}
    running = lmxd(
        gpu={"device": "host", "max_memory_gb": 1},
        engines={
            "plain": {"kind": "llama.cpp", "path": str(find(None))},
            "wrapped": {"path": str(wrapper(tmp_path, "second-server")), "env": {"LC_ALL": "C"}},
        },
        models={"a": model | {"engine": "plain"}, "b": model | {"engine": "wrapped"}, "c": model},
    )
    with running, running.client() as client:
        leases = [client.request(name) for name in "abc"]
        asked = {"prompt": "The capital of France is", "n_predict": 4}
        for lease in leases:
            assert post(lease, "/completion", asked)["tokens_predicted"] > 0
        shown = running.lmxctl("status").stdout
        assert [line.split(":")[0] for line in shown.splitlines() if line.startswith("engine ")] == [
            "engine llama.cpp",
            "engine plain",
            "engine wrapped",
        ]
        for words in (("models",), ("ps",)):
            table = running.lmxctl(*words).stdout
            assert "ENGINE" in table
            assert all(name in table for name in ("llama.cpp", "plain", "wrapped"))
        client.release(leases[1].lease)
        assert running.json("plan", "b")["engine"] == "wrapped"
        assert "by the engine" not in running.lmxctl("plan", "c").stdout


def test_with_one_engine_no_view_has_a_column_for_it(lmxd: Make) -> None:
    with lmxd() as running:
        assert "ENGINE" not in running.lmxctl("models").stdout
        assert ", engine " in running.lmxctl("status").stdout.splitlines()[0]
