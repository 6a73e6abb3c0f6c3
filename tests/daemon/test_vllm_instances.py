"""Instances of vLLM under a whole lmxd, with a fake one: started, asked, named, ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import House, fake_vllm

from lmxd.errors import LmxdError


def served(directory: Path, name: str = "v", **play: Any) -> dict[str, Any]:
    """A profile of a directory that the fake serves, and how it is to behave."""
    path = hf_directory(directory / name, LLAMA, llama_tensors())
    (path / "play.json").write_text(json.dumps(play))
    return {"engine": "vllm", "program": str(fake_vllm(directory)), "path": str(path), "estimated_memory_gb": 1}


async def test_it_is_started_with_what_was_admitted(tmp_path: Path) -> None:
    async with House(tmp_path, models={"v": served(tmp_path) | {"context_length": 2048, "slots": 3}}).open() as h:
        async with h.client() as client:
            lease = await client.request("v")
            words = h.argv(h.launched("v#1"))
        assert words[words.index("--max-model-len") + 1] == "2048"
        assert words[words.index("--max-num-seqs") + 1] == "3"
        assert lease.socket is not None
        assert lease.api_key not in " ".join(words)


async def test_a_failure_has_its_code_and_the_cause(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lmxd.audit")
    lines = [
        "(EngineCore pid=12) ERROR 11-25 20:24:45 [core.py:1] ValueError: To serve at least one request with the"
        " model's max seq len (4096), 0.25 GiB KV cache is needed",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    profile = served(tmp_path, exit={"status": 1, "lines": lines})
    async with House(tmp_path, models={"v": profile}).open() as h, h.client() as client:
        with pytest.raises(LmxdError) as caught:
            await client.request("v")
        texts = [step.text for step in (await client.explain("v#1")).steps]
    assert any("v#1 ended (bad_context): " in text and "To serve at least one request" in text for text in texts)
    assert caught.value.code == "launch_failed"
    assert any(line.startswith("end v#1: bad_context, ") for line in caplog.messages)
    assert caught.value.remedy == "lower context_length of its profile"
    assert "bad_context" in str(caught.value.data)
    assert "To serve at least one request" in str(caught.value)


async def test_both_kinds_take_turns_where_one_has_room(tmp_path: Path) -> None:
    room = {"device": "host", "max_memory_gb": 1.5, "margin_gb": 0}
    models = {"v": served(tmp_path), "g": {"estimated_memory_gb": 1}}
    async with House(tmp_path, models=models, gpu=room).open() as h, h.client() as client:
        for name in ("v", "g", "v"):
            lease = await client.request(name)
            assert [i.model for i in (await client.instances()).instances if i.phase == "ready"] == [name]
            await lease.release()


async def test_a_missing_program_is_told_with_its_key(tmp_path: Path) -> None:
    profile = served(tmp_path) | {"program": "/nowhere/vllm"}
    async with House(tmp_path, models={"v": profile}).open() as h, h.client() as client:
        with pytest.raises(LmxdError) as caught:
            await client.request("v")
        with pytest.raises(LmxdError) as planned:
            await client.plan("v")
    assert str(planned.value) == str(caught.value), "a plan says what a request would be told"
    assert "models.v.program" in str(caught.value)
