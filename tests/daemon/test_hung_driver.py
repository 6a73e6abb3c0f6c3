"""A driver that hangs on one card, as clients of the daemon see it: the other card goes on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from lmxd.errors import LmxdError

GIB = 2**30
ON_GPU = ["load_tensors:      CUDA0 model buffer size =  4155.99 MiB"]


def two_cards(tmp_path: Path) -> House:
    for name in "ab":
        model(tmp_path, name, buffers=ON_GPU)
    return House(
        tmp_path,
        FakeNvml(card(24, "GPU-a"), card(24, "GPU-b")),
        models={name: {"estimated_memory_gb": 12} for name in "ab"},
    )


@pytest.mark.parametrize("call", ["UUID", "Memory_v2", "Compute"])
async def test_others_are_admitted_and_released_while_one_card_hangs(tmp_path: Path, call: str) -> None:
    house, event = two_cards(tmp_path), threading.Event()
    async with house.open() as h, h.client() as lmxd:
        h.nvml.cards[1].hangs[call] = event
        try:
            good, bad = (await lmxd.devices()).devices
            assert (good.id, good.unavailable, good.headroom) == ("GPU-a", None, 22 * GIB)
            assert (bad.id, bad.unavailable) == ("GPU-b", "NVML: the driver has not answered for 2 s")
            assert "other devices go on" in bad.remedy
            assert (await lmxd.request("a")).devices == {"GPU-a": 12 * GIB}
            with pytest.raises(LmxdError, match=r"GPU-b is unavailable|has not answered"):
                await lmxd.request("b", wait=0)
            waiting = asyncio.create_task(lmxd.request("b"))
            await h.until(lambda: len(h.state.queue) == 1)
            await lmxd.stop("a#1")
            assert (await asyncio.wait_for(waiting, 15)).devices == {"GPU-a": 12 * GIB}
            await lmxd.reload()
            assert [d.unavailable is None for d in (await lmxd.devices()).devices] == [True, False]
            assert h.daemon.health.fresh, "a daemon that sees something is not restarted"
        finally:
            event.set()
        assert (await asyncio.wait_for(lmxd.request("a"), 15)).devices == {"GPU-b": 12 * GIB}
