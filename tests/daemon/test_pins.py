"""Pins that administrators set while instances run, and how far a starting one is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from lmxd.errors import LmxdError
from lmxd.rpc.notifications import Progress

HALF = {"estimated_memory_gb": 12}


async def test_what_is_pinned_is_not_evicted_until_it_is_let_go(tmp_path: Path) -> None:
    house = House(tmp_path, FakeNvml(card()), models={"a": HALF, "b": HALF})
    async with house.open(), house.client() as lmxd:
        await (await lmxd.request("a")).release()
        assert (await lmxd.pin("a#1")).pin
        [shown] = (await lmxd.instances()).instances
        assert shown.idle_timeout is None
        with pytest.raises(LmxdError, match="no room"):
            await lmxd.request("b", wait=0)
        waiting = asyncio.create_task(lmxd.request("b"))
        await house.until(lambda: len(house.state.queue) == 1)
        assert not (await lmxd.pin("a#1", pin=False)).pin
        assert (await waiting).model == "b"


async def test_a_pin_outlives_the_daemon(tmp_path: Path) -> None:
    house = House(tmp_path, FakeNvml(card()), models={"a": HALF})
    async with house.open(), house.client() as lmxd:
        await lmxd.request("a", hold="explicit")
        await lmxd.pin("a#1")
        [row] = house.saved().instances
        assert '"pin":true' in row.ask


async def test_a_pinned_instance_is_not_reaped(tmp_path: Path) -> None:
    house = House(tmp_path, FakeNvml(card()), models={"a": HALF, "b": {"estimated_memory_gb": 2}}, idle_timeout=0.2)
    async with house.open(), house.client() as lmxd:
        await (await lmxd.request("a")).release()
        await lmxd.pin("a#1")
        await (await lmxd.request("b")).release()
        await house.until(lambda: "b#1" not in house.phases())
        assert house.phases() == {"a#1": "ready"}


async def test_a_hold_cannot_be_pinned(tmp_path: Path) -> None:
    house = House(tmp_path, FakeNvml(card()))
    async with house.open(), house.client() as lmxd:
        held = await lmxd.hold(2**30)
        with pytest.raises(LmxdError, match="is a hold"):
            await lmxd.pin(held.instance)
        with pytest.raises(LmxdError, match="no instance"):
            await lmxd.pin("none#1")


async def test_who_waits_for_a_start_is_told_how_far_it_is(tmp_path: Path) -> None:
    model(tmp_path, "a", allocate_mb=200, load_seconds=1.0)
    house = House(tmp_path, gpu={"device": "host"}, models={"a": {"estimated_memory_gb": 0.5}})
    told: list[Progress] = []
    async with house.open(), house.client() as lmxd:
        await lmxd.request("a", on_progress=told.append)
        parts = [p.loaded for p in told if p.loaded is not None]
        assert parts
        assert 0.2 < max(parts) < 1


async def test_how_busy_an_instance_is(tmp_path: Path) -> None:
    house = House(tmp_path, FakeNvml(card()), models={"a": HALF})
    async with house.open(), house.client() as lmxd:
        lease = await lmxd.request("a")
        launched = house.daemon.launches.get(lease.instance)
        assert launched is not None
        from house import http

        await http(lease, "/fake/busy", b"3")
        await lmxd.instances()
        await house.until(lambda: launched.pace.processing == 3)
        [shown] = (await lmxd.instances()).instances
        assert (shown.processing, shown.busy) == (3, True)
