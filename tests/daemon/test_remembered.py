"""What the daemon writes down beside its promises: who waits since when, and how long things take."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from house import House, model

from lmxd.core.words import NO_CONNECTION, Owner
from lmxd.daemon.answering.repeats import digest
from lmxd.daemon.keeping.arrivals import row_id
from lmxd.errors import LmxdError
from lmxd.rpc.messages import Granted, RequestParams
from lmxd.rpc.notifications import Progress
from lmxd.store.rows import ArrivalRow


def house(tmp_path: Path) -> House:
    """With room for one instance."""
    small = {"estimated_memory_gb": 0.4}
    return House(tmp_path, models={"a": small, "b": small}, gpu={"device": "host", "max_memory_gb": 0.5})


def arrivals(h: House) -> dict[str, float]:
    return {row.id.split(" ", 2)[2]: row.asked_at for row in h.saved().arrivals}


def row(h: House, key: str, asked_at: float, uid: int | None = None) -> ArrivalRow:
    """As it is written down for a request for b."""
    owner = Owner(uid=os.getuid() if uid is None else uid, pid=0, connection=NO_CONNECTION)
    return ArrivalRow(id=row_id(owner, key, digest(RequestParams(model="b"))), asked_at=asked_at)


async def test_who_waits_is_written_down_until_the_answer(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as holder, h.client() as lmxd:
        lease = await holder.request("a")
        assert arrivals(h) == {}, "an answered request needs no place"
        told: list[Progress] = []
        waits = asyncio.create_task(lmxd.request("b", on_progress=told.append, idempotency_key="k"))
        await h.until(lambda: bool(told))
        (ticket,) = h.state.queue
        assert arrivals(h) == {"k": ticket.asked_at}
        await lease.release()
        await waits
        assert arrivals(h) == {}


async def test_who_waits_no_more_is_not_written_down(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as holder, h.client() as lmxd:
        await holder.request("a")
        told: list[Progress] = []
        for key in ("cancelled", "left"):
            asked = lmxd.request("b", on_progress=told.append, idempotency_key=key)
            waits = asyncio.create_task(asked)
            await h.until(lambda: bool(told))
            assert list(arrivals(h)) == [key]
            if key == "cancelled":
                await holder.cancel(ticket=told.pop().ticket)
                assert isinstance((await asyncio.gather(waits, return_exceptions=True))[0], LmxdError)
            else:
                await lmxd.__aexit__()
                await asyncio.gather(waits, return_exceptions=True)
            await h.until(lambda: arrivals(h) == {})


async def test_a_key_stands_for_one_place_and_one_lease(tmp_path: Path) -> None:
    """Who asks once more while it waits has the place of before; what it asked first is answered."""
    async with house(tmp_path).open() as h, h.client() as holder, h.client() as lmxd:
        lease = await holder.request("a")
        h.daemon.arrivals.restore([row(h, "k", 1.0), row(h, "k", 2.0, uid=7)])
        asks = [asyncio.create_task(lmxd.request("b", idempotency_key="k")) for _ in range(3)]
        await h.until(lambda: sum(ask.done() for ask in asks) == 2)
        [ticket] = h.state.queue
        assert ticket.asked_at == 1.0
        await lease.release()
        answers = await asyncio.gather(*asks, return_exceptions=True)
        assert [x.code for x in answers if isinstance(x, LmxdError)] == ["cancelled"] * 2
        assert [x.model for x in answers if isinstance(x, Granted)] == ["b"]
        assert len(h.state.leases) == 1


async def test_a_key_keeps_its_place_for_the_same_request_only(tmp_path: Path) -> None:
    """Else places could be gathered by requests that are never served, and used for others."""
    async with house(tmp_path).open() as h, h.client() as holder, h.client() as lmxd:
        lease = await holder.request("a")
        first = asyncio.create_task(lmxd.request("b", idempotency_key="k"))
        await h.until(lambda: len(h.state.queue) == 1)
        [before] = h.state.queue
        for other in (
            lmxd.request("b", ctx=512, idempotency_key="k"),
            lmxd.hold(1, idempotency_key="k"),
            holder.request("b", exclusive=True, idempotency_key="k"),
        ):
            with pytest.raises(LmxdError, match="of another request, which waits") as refused:
                await other
            assert refused.value.code == "invalid_params"
        assert list(h.state.queue) == [before], "the first waits on, where it was"
        await lease.release()
        assert (await first).model == "b"


async def test_who_asks_again_keeps_its_place_in_a_full_queue(tmp_path: Path) -> None:
    """The one that it asks instead of takes no place from it."""
    full = house(tmp_path)
    full.write(admission_control={"queue_depth": 1})
    async with full.open() as h, h.client() as holder, h.client() as lmxd:
        lease = await holder.request("a")
        asks = [asyncio.create_task(lmxd.request("b", idempotency_key="k")) for _ in range(2)]
        await h.until(lambda: any(ask.done() for ask in asks))
        assert len(h.state.queue) == 1
        await lease.release()
        answers = await asyncio.gather(*asks, return_exceptions=True)
        assert sorted(type(x).__name__ for x in answers) == ["AsyncLease", "LmxdError"]


async def test_who_does_not_come_back_is_forgotten(tmp_path: Path) -> None:
    h = house(tmp_path)
    async with h.open():
        h.daemon.outbox.put([row(h, key, 1.0) for key in ("here", "gone")], ())
        await h.daemon.outbox.settled()
    async with h.open(), h.client() as holder, h.client() as lmxd:
        await holder.request("a")
        waits = asyncio.create_task(lmxd.request("b", idempotency_key="here"))
        await h.until(lambda: len(h.state.queue) == 1)
        assert arrivals(h) == {"here": 1.0, "gone": 1.0}
        h.daemon.outbox.put(h.daemon.arrivals.give_up(), ())
        await h.daemon.outbox.settled()
        assert arrivals(h) == {"here": 1.0}
        waits.cancel()


async def test_what_was_learned_of_times_is_known_to_the_next(tmp_path: Path) -> None:
    h = house(tmp_path)
    model(tmp_path, "a", load_seconds=0.3)
    async with h.open(), h.client() as lmxd:
        for _ in range(2):
            await (await lmxd.request("a")).release()
        means = h.state.expectations.means()
        before = {name: means[name]["a"] for name in ("launches", "holds", "gaps")}
        await h.until(lambda: len(h.saved().means) >= 3)
    async with h.open():
        means = h.state.expectations.means()
        assert {name: means[name]["a"] for name in before} == before
        assert before["launches"] >= 0.3
