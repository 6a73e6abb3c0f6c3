"""What an engine was seen to take is promised the next time, and not told: else it takes more at every start."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, http

from lmxd.core.words import InstanceId

FAKE = Path(__file__).parent.parent / "fake_servers.py"
GIB = 2**30


def profile(directory: Path) -> dict[str, Any]:
    """An engine that is told its share in both words that there are for it."""
    script = directory / "vllm"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} vllm "$@"\n')
    script.chmod(0o755)
    words = ["serve", "{memory_mb}", "--uds", "{socket}", "--gpu-memory-utilization", "{memory_fraction}"]
    words += ["--max-model-len", "{ctx}", "--served-model-name", "{name}"]
    return {"command": [str(script), *words], "estimated_memory_gb": 4}


async def started(house: House, nvml: FakeNvml, over: float) -> dict[str, Any]:
    """What one start was told and was promised. It takes ``over`` times what it is told."""
    async with house.client() as lmxd:
        lease = await lmxd.request("v")
        seen = json.loads((await http(lease, "/seen")).text)
        told = float(seen["--gpu-memory-utilization"]) * 80 * GIB
        pid = house.daemon.performer.pid(InstanceId(lease.instance)) or 0
        nvml.cards[0].processes = {pid: int(told * over)}
        await house.daemon.measuring.look()
        await lmxd.stop(lease.instance)
        nvml.cards[0].processes = {}
        await house.until(lambda: not house.state.instances)
        return {"mb": int(seen["model"]), "told": told, "promised": lease.devices["GPU-a"]}


@pytest.mark.parametrize("over", [0.9, 1.3])
async def test_five_starts_are_told_the_same_and_from_the_second_on_promised_the_same(
    tmp_path: Path, over: float
) -> None:
    nvml = FakeNvml(card(80))
    async with House(tmp_path, nvml, models={"v": profile(tmp_path)}).open() as house:
        found = [await started(house, nvml, over) for _ in range(5)]
        ((mb, told),) = {(x["mb"], x["told"]) for x in found}
        assert (mb, told) == (4096, pytest.approx(4 * GIB))
        assert found[0]["promised"] == 4 * GIB
        (later,) = {x["promised"] for x in found[1:]}
        assert later == pytest.approx(max(4.0, 4 * over) * GIB)


@pytest.mark.parametrize(
    ("said", "forgotten"), [({}, 1), ({"model": "v"}, 1), ({"model": "w"}, 0), ({"card": "Fake"}, 0)]
)
async def test_forget_forgets_it(tmp_path: Path, said: dict[str, str], forgotten: int) -> None:
    nvml = FakeNvml(card(80))
    models = {"v": profile(tmp_path), "w": {}}
    async with House(tmp_path, nvml, models=models).open() as house, house.client() as lmxd:
        await started(house, nvml, 2.0)
        (told,) = (await lmxd.estimates()).peaks
        assert told.model == "v"
        assert told.bytes == pytest.approx(8 * GIB)
        assert (await lmxd.forget(**said)).count == forgotten
        assert len((await lmxd.estimates()).peaks) == 1 - forgotten
        promised = (await lmxd.models()).models[0].bytes["GPU-a"]
        assert promised == pytest.approx((4 if forgotten else 8) * GIB)
    assert len(json.loads((house.where.state / "peaks.json").read_text())) == 1 - forgotten
