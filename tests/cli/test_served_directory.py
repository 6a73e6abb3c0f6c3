"""lmxctl estimate of a directory that vLLM serves: its parts, and how many tokens fit where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hf_directory import LLAMA, hf_directory, llama_tensors

from lmxd.cli.main import main
from lmxd.cli.served import WantedServed, of_directory
from lmxd.errors import EX_CONFIG, EX_USAGE

GIB = 2**30
ROW = 512


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["estimate", *words], terminal_width=200)


def found(*words: str) -> dict[str, Any]:
    answer = run(*words, "--json")
    assert answer.exit_code == 0, answer.output
    return dict(json.loads(answer.stdout))


@pytest.fixture
def llama(tmp_path: Path) -> str:
    return str(hf_directory(tmp_path / "m", LLAMA, llama_tensors()))


def test_the_parts_are_shown_with_what_vllm_is_told(llama: str) -> None:
    said = run(llama, "--as-gpu", "H100", "--ctx", "8192", "--slots", "2").stdout
    for word in ("8192 tokens in each of 2 slots", "weights", "kv", "compute", "overhead", "plus or minus", "LlamaFor"):
        assert word in said
    assert f"--kv-cache-memory-bytes {(2 * 8192 + 16) * ROW}" in said
    assert "tokens of cache on H100" in said


def test_tokens_that_fit_are_what_is_left(llama: str) -> None:
    one = found(llama, "--as-gpu", "H100")
    (device,) = one["devices"]
    left = 80 * GIB - (device["total"] - device["kv"])
    assert 0 <= left // ROW - one["fits"]["tokens"]["H100"] < 2 * GIB // ROW
    assert (one["fits"]["largest_context"], one["fits"]["fewest_gpus"]) == (32_768, 1)
    half = found(llama, "--as-gpu", "H100", "--kv-cache-dtype", "fp8")
    assert half["fits"]["tokens"]["H100"] == pytest.approx(2 * one["fits"]["tokens"]["H100"], rel=0.001)


def test_no_tokens_stand_for_as_many_as_it_was_trained_for(llama: str) -> None:
    """As of a profile: ``lmxd pull`` asks so before a copy comes."""
    asked = {ctx: of_directory(Path(llama), WantedServed(ctx=ctx)) for ctx in (None, 0, 512)}
    assert [each.ctx for each in asked.values()] == [4096, 32_768, 512]


def test_it_is_divided_in_equal_shares(llama: str) -> None:
    first, second = found(llama, "--as-gpu", "H100", "--gpus", "2", "--kv-tokens", "100000")["devices"]
    assert {**first, "device": ""} == {**second, "device": ""}
    assert first["kv"] == (100_000 + 16) * ROW // 2


def test_flags_count(llama: str) -> None:
    wide, usual = found(llama, "--as-gpu", "H100", "--dtype", "float32"), found(llama, "--as-gpu", "H100")
    assert wide["devices"][0]["weights"] == 2 * usual["devices"][0]["weights"]
    eager = found(llama, "--as-gpu", "H100", "--flags", "--enforce-eager --block-size 32")
    assert eager["devices"][0]["overhead"] < usual["devices"][0]["overhead"]
    assert eager["inputs"]["block"] == 32


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--ctx", "99999"], EX_USAGE, "more than the 32768"),
        (["--kv-tokens", "16"], EX_USAGE, "hold no request of 4096"),
        (["--gpus", "3", "--as-gpu", "H100"], EX_USAGE, "cannot be divided by 3 GPUs"),
        (["--gpus", "3", "--as-gpu", "H100", "--as-gpu", "H100"], EX_USAGE, "--gpus is 3, but there are 2"),
        (["--cache-type", "q8_0"], EX_USAGE, "--cache-type is llama-server's"),
        (["--engine", "/usr/bin/true"], EX_USAGE, "--engine is llama-server's"),
        (["--flags", "--block-size many"], EX_USAGE, "--block-size is 'many'"),
    ],
)
def test_what_cannot_be_is_said(llama: str, words: list[str], status: int, sentence: str) -> None:
    answer = run(llama, *words)
    assert (answer.exit_code, answer.stdout) == (status, "")
    assert sentence in answer.stderr


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    answer = run(str(tmp_path), "--gpus", "1")
    assert (answer.exit_code, "no config.json" in answer.stderr) == (EX_CONFIG, True)
    assert run(str(tmp_path)).stdout.endswith("and no config.json of a model for vLLM\n")


def test_slots_are_no_more_than_a_profile_may_have(llama: str) -> None:
    assert found(llama, "--as-gpu", "H100")["fits"]["most_slots"] == 256


def test_gpus_that_are_not_there_are_said(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmxd.cli.served.places_of", lambda names, backends: [])
    answer = run(llama, "--gpus", "2")
    assert (answer.exit_code, answer.stdout) == (EX_USAGE, "")
    assert "--gpus is 2, but there are none" in answer.stderr
