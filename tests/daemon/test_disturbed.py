"""An engine that measures its device dies of what others free there: it is started again once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from hf_directory import LLAMA, hf_directory, llama_tensors
from house import House, card, fake_vllm

from lmxd.errors import LmxdError

OPEN = Path(__file__).parent.parent / "fake_open_engine.py"
DISTURBED = (
    "AssertionError: Error in memory profiling. Initial free memory 70.1 GiB, current free memory 74.2 GiB. This"
    " happens when other processes sharing the same container release GPU memory while vLLM is profiling."
)


def served(directory: Path, **play: Any) -> dict[str, Any]:
    path = hf_directory(directory / "v", LLAMA, llama_tensors())
    (path / "play.json").write_text(json.dumps(play))
    return {"engine": "vllm", "program": str(fake_vllm(directory)), "path": str(path), "estimated_memory_gb": 1}


def starts(directory: Path) -> int:
    return len((directory / "v" / "starts").read_text().splitlines())


@pytest.mark.parametrize(("times", "message", "started"), [(1, DISTURBED, 2), (2, DISTURBED, 2), (1, "KeyError: 1", 1)])
async def test_it_is_started_again_once(tmp_path: Path, times: int, message: str, started: int) -> None:
    profile = served(tmp_path, exit={"status": 1, "lines": [message], "times": times})
    async with House(tmp_path, models={"v": profile}).open() as h, h.client() as client:
        if times < started:
            assert (await client.request("v")).instance == "v#1"
        else:
            with pytest.raises(LmxdError) as caught:
                await client.request("v")
            assert ("disturbed" in str(caught.value.data)) == (message is DISTURBED)
        assert starts(tmp_path) == started


async def test_only_an_engine_that_measures_a_card_is_left_undisturbed(tmp_path: Path) -> None:
    """vLLM is told the bytes of its cache, llama-server all; of any other engine nobody knows."""
    command = [sys.executable, str(OPEN), "127.0.0.1", "{port}", str(tmp_path)]
    other = {"command": command, "open": True, "estimated_memory_gb": 1, "load_timeout": 70}
    models = {"v": served(tmp_path), "g": {}, "c": other}
    async with House(tmp_path, FakeNvml(card(80)), models=models).open() as h:
        catalog, layout = h.daemon.catalog, h.daemon.present.layout
        assert catalog.resolve("c").ask(layout).measures == 70
        assert catalog.resolve("g").ask(layout).measures == 0
        assert not catalog.resolve("v").sizing.measures
    async with House(tmp_path, models=models).open() as h:
        assert h.daemon.catalog.resolve("c").ask(h.daemon.present.layout).measures == 0, "in RAM nothing is measured"
