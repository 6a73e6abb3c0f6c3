"""A request whose client wants it no longer: whenever that is said, nothing of it is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from house import House, model
from waiting import turns

from lmxd.engines.llama_cpp.dry_run import DryRun, Rehearsed
from lmxd.gguf.builds import LATEST

HALF = {"estimated_memory_gb": 0.4, "slots": 2}


def house(tmp_path: Path, **sections: Any) -> House:
    rooms: dict[str, Any] = {
        "gpu": {"device": "host", "max_memory_gb": 1},
        "models": {"a": HALF, "b": {"estimated_memory_gb": 0.9}},
    }
    return House(tmp_path, **(rooms | sections))


async def test_at_any_moment_of_a_request_that_is_served_at_once(tmp_path: Path) -> None:
    """Before the daemon has heard of it, while it thinks, once it is granted and the answer is on its way."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        answered = 0
        for moment in range(60):
            task = asyncio.create_task(lmxd.request("a"))
            await turns(moment)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await (await task).release()
                answered += 1
            await h.until(lambda: len(h.state.leases) == 1 and not h.state.tickets)
        assert answered < 60, "some were cancelled"
        await h.until(lambda: not lmxd.granting)
        assert h.state.shares.by_uid.popitem()[1].leases == 1


@pytest.mark.parametrize("wanted", ["a", "b"])
async def test_while_it_waits_or_its_model_loads(tmp_path: Path, wanted: str) -> None:
    model(tmp_path, "a", load_seconds=30)
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        if wanted == "b":
            held = await other.hold(600 * 2**20)
        for _ in range(3):
            task = asyncio.create_task(lmxd.request(wanted))
            await h.until(lambda: bool(h.state.tickets))
            [ticket] = h.state.tickets.values()
            assert (ticket.instance is None) == (wanted == "b")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await h.until(lambda: not h.state.tickets)
        if wanted == "b":
            await other.release(held.lease)
            assert (await lmxd.request("b")).instance == "b#1", "its place is free again"


class SlowDryRun:
    """An engine that says what a model takes as soon as it is let ``go``. ``count``: how often it was asked."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.count = 0

    def ask(self, model: Path, words: Sequence[str], cards: int) -> DryRun:
        self.count += 1
        self.go.wait(10)
        return DryRun(devices=(), host=Rehearsed(weights=0, context=0, compute=0))

    def known(self, model: Path, words: Sequence[str], cards: int) -> DryRun | None:
        return DryRun(devices=(), host=Rehearsed(weights=0, context=0, compute=0)) if self.go.is_set() else None


async def test_a_cold_model_is_read_once_for_all_who_ask_and_one_that_leaves_does_not_stop_it(tmp_path: Path) -> None:
    async with house(tmp_path, models={"a": {"estimated_memory_gb": 0.1, "slots": 8}}).open() as h, h.client() as lmxd:
        engine = SlowDryRun()
        unknown = replace(LATEST, known=False)
        h.daemon.catalog.default.estimator = replace(h.daemon.catalog.default.estimator, build=unknown, second=engine)
        first, *others = [asyncio.create_task(lmxd.request("a")) for _ in range(8)]
        await h.until(lambda: engine.count == 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await lmxd.queue()
        engine.go.set()
        leases = await asyncio.gather(*others)
        assert {x.instance for x in leases} == {"a#1"}
        assert engine.count == 1
        assert len(h.state.leases) == 7
