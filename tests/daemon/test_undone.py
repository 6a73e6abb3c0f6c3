"""A decision that lmxd fails to carry out: everybody is answered even so, and nothing is left half done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from house import House, model

from lmxd.core.decisions import (
    AskToYield,
    CheckActivity,
    Decision,
    EndLease,
    ForgetInstance,
    GrantLease,
    RefuseLease,
    ReportProgress,
    ReportSwap,
    StartInstance,
    StopInstance,
)
from lmxd.core.events import InstanceExited
from lmxd.core.invariants import broken
from lmxd.daemon.answering import views
from lmxd.errors import LmxdError
from lmxd.rpc.client import AsyncLease
from lmxd.rpc.messages import Granted

KINDS: list[type[Decision]] = [
    AskToYield,
    StartInstance,
    StopInstance,
    CheckActivity,
    GrantLease,
    RefuseLease,
    ReportProgress,
    ReportSwap,
    EndLease,
    ForgetInstance,
]


def house(tmp_path: Path) -> House:
    """With room for one instance."""
    small = {"estimated_memory_gb": 0.4}
    return House(tmp_path, models={"a": small, "b": small}, gpu={"device": "host", "max_memory_gb": 0.5})


def once(failing: Callable[..., Any], when: Callable[..., bool]) -> tuple[Callable[..., Any], list[object]]:
    """The same function, that raises the first time when it is called so; and what it raised at."""
    failed: list[object] = []

    def wrapped(*given: Any) -> Any:
        if not failed and when(*given):
            failed.append(given)
            raise RuntimeError("a fault of lmxd's own")
        return failing(*given)

    return wrapped, failed


async def everybody_asks(h: House) -> list[object]:
    """Who holds a, who waits for b meanwhile, and who would not wait for it; what each is answered."""
    async with h.client() as holder, h.client() as waiter, h.client() as hasty:
        answers: list[object] = [*await asyncio.gather(holder.request("a"), return_exceptions=True)]
        waits = asyncio.create_task(waiter.request("b", priority=1))
        await h.until(lambda: waits.done() or len(h.state.tickets) > 0)
        answers += await asyncio.gather(hasty.request("a", wait=0, ctx=512), return_exceptions=True)
        if isinstance(answers[0], AsyncLease):
            await answers[0].release()
        answers += await asyncio.gather(asyncio.wait_for(waits, 15), return_exceptions=True)
        return answers


async def nothing_is_left(h: House) -> None:
    await h.until(lambda: not h.state.tickets and not h.state.leases and "starting" not in h.phases().values())
    assert broken(h.state) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_done_once_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Decision]
) -> None:
    async with house(tmp_path).open() as h:
        performer = h.daemon.performer
        carry_out, failed = once(performer.carry_out, lambda x: isinstance(x, kind))
        monkeypatch.setattr(performer, "carry_out", carry_out)
        answers = await everybody_asks(h)
        assert failed, "the story has no such decision"
        assert not any(isinstance(answer, TimeoutError) for answer in answers), answers
        await nothing_is_left(h)


@pytest.mark.parametrize(("told", "code"), [("grant", "internal"), ("refusal", "no_capacity")])
async def test_what_cannot_be_told_once_is_answered_as_far_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, code: str
) -> None:
    async with house(tmp_path).open() as h:
        where, name = (h.daemon.answers, "granted") if told == "grant" else (views, "refusal")
        wrapped, failed = once(getattr(where, name), lambda *_: True)
        monkeypatch.setattr(where, name, wrapped)
        answers = await everybody_asks(h)
        assert failed
        assert code in [x.code for x in answers if isinstance(x, LmxdError)], answers
        await nothing_is_left(h)


async def test_what_cannot_be_written_down_once_is_done_even_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path).open() as h:
        records = h.daemon.records
        row, failed = once(records.row, lambda *_: True)
        monkeypatch.setattr(records, "row", row)
        answers = await everybody_asks(h)
        assert failed
        assert isinstance(answers[0], AsyncLease)
        assert isinstance(answers[2], AsyncLease)
        await nothing_is_left(h)


async def test_an_engine_that_cannot_be_asked_is_taken_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await (await lmxd.request("a")).release()
        launched = h.launched("a#1")
        assert launched is not None
        asked, failed = once(launched.engine.activity, lambda *_: True)
        monkeypatch.setattr(launched.engine, "activity", asked)
        assert (await asyncio.wait_for(lmxd.request("b"), 15)).instance == "b#1"
        assert failed


@pytest.mark.parametrize("hold", ["connection", "ttl"])
async def test_an_instance_that_ends_as_it_is_granted_is_asked_for_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: Literal["connection", "ttl"]
) -> None:
    """Its client, who waited, is told of another and not to ask again."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        ended = _end_as_they_are_granted(h, 1)
        lease = await asyncio.wait_for(lmxd.request("a", hold=hold), 15)
        assert ended == ["a#1"]
        assert lease.instance == "a#2"
        assert [x.id for x in h.state.leases.values()] == [lease.lease]
        assert broken(h.state) == []


async def test_a_deadline_is_not_put_off_by_instances_that_end_as_they_are_granted(tmp_path: Path) -> None:
    model(tmp_path, "a", load_seconds=0.4)
    async with house(tmp_path).open() as h, h.client() as lmxd:
        ended = _end_as_they_are_granted(h, 3)
        with pytest.raises(LmxdError) as refused:
            await asyncio.wait_for(lmxd.request("a", deadline=1.5), 30)
        assert refused.value.code == "deadline"
        assert 0 < len(ended) < 4
        assert not h.state.tickets


async def test_a_request_that_is_asked_again_has_one_lease_by_its_key(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as one, h.client() as two:
        _end_as_they_are_granted(h, 1)
        both = [asyncio.create_task(x.request("a", idempotency_key="k")) for x in (one, two)]
        answers = await asyncio.wait_for(asyncio.gather(*both, return_exceptions=True), 15)
        leases = {x.lease for x in answers if isinstance(x, Granted)}
        assert leases == set(h.state.leases)
        assert len(leases) == 1
        assert broken(h.state) == []


def _end_as_they_are_granted(h: House, count: int) -> list[str]:
    """So many instances end between the decision to grant a lease of them and the answer."""
    told, ended = h.daemon.answers.tell, list[str]()

    def tell(decision: Decision) -> None:
        if isinstance(decision, GrantLease) and len(ended) < count:
            ended.append(decision.instance)
            h.daemon.performer.launches.stop(decision.instance)
            h.daemon.loop.handle(InstanceExited(at=time.monotonic(), instance=decision.instance))
        told(decision)

    h.daemon.answers.tell = tell  # type: ignore[method-assign]
    return ended
