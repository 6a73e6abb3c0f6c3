"""Repeated requests: an idempotency key is for one request and one lease, whoever asks, as whatever, and when."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
from house import House, model

from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted

SMALL = {"estimated_memory_gb": 0.2}


def house(tmp_path: Path) -> House:
    model(tmp_path, "slow", load_seconds=0.3)
    return House(tmp_path, models={"slow": SMALL, "a": SMALL, "b": SMALL}, gpu={"device": "host", "max_memory_gb": 1})


async def refused(call: Awaitable[object]) -> LmxdError:
    with pytest.raises(LmxdError) as caught:
        await call
    return caught.value


async def test_a_key_on_several_connections_while_the_model_loads_is_one_lease(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as one, h.client() as two, h.client() as three:
        asks = [asyncio.create_task(x.request("slow", idempotency_key="k")) for x in (one, two, three)]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        said = [(x.code, x.message) for x in answers if isinstance(x, LmxdError)]
        assert said == [("cancelled", "it was asked again on another connection")] * 2
        (lease,) = [x for x in answers if isinstance(x, Granted)]
        assert list(h.state.leases) == [lease.lease]
        assert h.phases() == {"slow#1": "ready"}
        again = await asyncio.gather(*(x.request("slow", idempotency_key="k") for x in (one, two, three)))
        assert {x.lease for x in again} == {lease.lease}


async def test_a_key_of_a_lease_is_for_the_same_request_only(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as one, h.client() as two:
        lease = await one.request("a", idempotency_key="k")
        for other in (
            two.request("b", idempotency_key="k"),
            two.request("a", ctx=512, idempotency_key="k"),
            two.request("a", exclusive=True, idempotency_key="k"),
            two.request("a", hold="explicit", idempotency_key="k"),
            two.request("a", user="anna", idempotency_key="k"),
            two.hold(1, idempotency_key="k"),
        ):
            error = await refused(other)
            assert (error.code, "'k' is of another request" in error.message) == ("invalid_params", True)
            assert error.remedy
        assert list(h.state.leases) == [lease.lease]
        same = await two.request("a", wait=3, deadline=9, waited=4, idempotency_key="k")
        assert same.lease == lease.lease, "how long a further try would wait, or has waited, is no matter"


async def test_a_key_of_a_hold_is_for_the_same_hold_only(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as one, h.client() as two:
        held = await one.hold(1000, idempotency_key="k")
        for other in (
            two.request("a", idempotency_key="k"),
            two.hold(1001, idempotency_key="k"),
            two.hold(1000, name="other", idempotency_key="k"),
        ):
            assert (await refused(other)).code == "invalid_params"
        assert (await two.hold(1000, idempotency_key="k")).lease == held.lease
        assert list(h.state.leases) == [held.lease]


async def test_a_hold_for_a_process_that_cannot_be_adopted_is_no_hold(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        for pid in (2**22 - 1, 2**31 - 1, 2**31, 2**63):
            assert (await refused(lmxd.hold(1000, pid=pid))).code == "invalid_params"
            assert (h.phases(), list(h.state.leases)) == ({}, [])


async def test_a_hold_whose_process_ends_before_it_is_granted_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    async with house(tmp_path).open() as h, h.client() as one, h.client() as lmxd:
        full = await one.hold(2**30)
        waits = asyncio.create_task(lmxd.hold(2**29, pid=child.pid))
        await h.until(lambda: len(h.state.queue) == 1)
        child.communicate(b"\n")
        await one.release(full.lease)
        assert (await refused(waits)).code == "invalid_params"
        await h.until(lambda: not h.phases())
        assert list(h.state.leases) == []
        mine = await lmxd.hold(1000, pid=os.getpid())
        assert list(h.state.leases) == [mine.lease]
