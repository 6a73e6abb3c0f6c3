"""Leases that have no instance while they move: everything that is asked about them has an answer meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon.test_carrying import left, said
from devices.fake_nvml import FakeNvml
from house import House, card, model

from lmxd.cli.views import moving_row
from lmxd.core.decisions import Decision, StartInstance
from lmxd.core.invariants import broken
from lmxd.core.moves import Carry, Parked
from lmxd.core.words import Ask, DeviceId, InstanceId, Option
from lmxd.daemon.keeping.records import PARKED
from lmxd.errors import LmxdError
from lmxd.rpc.client import AsyncClient, AsyncLease
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import Notification

PROMPT = "Tell me of the sea. "
SLOW = {"counts": True, "load_seconds": 60}


def house(tmp_path: Path, slots: int = 1, **play: Any) -> House:
    """With a model that grows from 256 to 1,024 tokens, of whose instances one alone has room."""
    model(tmp_path, "m", counts=True, **play)
    profile = {"estimated_memory_gb": 0.6, "context_length": 1024, "slots": slots, "elastic": {"start": 256}}
    return House(tmp_path, models={"m": profile}, gpu={"device": "host", "max_memory_gb": 1})


def play(tmp_path: Path, **what: Any) -> None:
    """How the instances behave that start from now on."""
    (tmp_path / "m.json").write_text(json.dumps({"counts": True} | what))


@contextlib.asynccontextmanager
async def parked(h: House, lmxd: AsyncClient, **how: Any) -> AsyncIterator[tuple[AsyncLease, str, asyncio.Task[Any]]]:
    """A lease whose larger instance loads and loads, what was answered before, and the growth that waits for it."""
    lease = await lmxd.request("m", **how)
    answer, _ = await said(lease, PROMPT)
    play(h.directory, load_seconds=60)
    growing = asyncio.create_task(lmxd.grow(lease.lease, ctx=1024))
    await h.until(lambda: h.state.leases[lease.lease].parked is not None and "starting" in h.phases().values())
    try:
        yield lease, answer, growing
    finally:
        growing.cancel()


def test_what_is_written_of_it_is_read_again() -> None:
    ask = Ask(profile="m", variant="", context=256, slots=1, spread=1, options=(Option(demand={DeviceId("gpu"): 1}),))
    parked = Parked(ask=ask, back=ask, carries=(Carry(instance=InstanceId("m#1"), slot=0, file="name"),))
    assert PARKED.validate_json(PARKED.dump_json(parked)) == parked


async def test_it_gets_the_bytes_of_its_own_instance_and_its_conversation_goes_along(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, count = await said(lease, PROMPT)
        assert count == len(PROMPT)
        grown = await lmxd.grow(lease.lease, ctx=1024)
        assert (grown.instance, grown.ctx, grown.slot) == ("m#2", 1024, 0)
        assert (await said(grown, PROMPT + answer))[1] == 1, "all but the last were cached"
        assert left(h) == []
        assert broken(h.state) == []


async def test_two_of_one_instance_get_its_bytes_together_and_each_has_its_own_conversation(tmp_path: Path) -> None:
    async with house(tmp_path, slots=8).open() as h, h.client() as lmxd:
        leases = [await lmxd.request("m") for _ in range(2)]
        assert {lease.instance for lease in leases} == {"m#1"}
        talks = [(lease, slot, "ab"[n] * 40) for n, (lease, slot) in enumerate(zip(leases, (5, 2), strict=True))]
        texts = [prompt + (await said(lease, prompt, id_slot=slot))[0] for lease, slot, prompt in talks]
        grown = await asyncio.gather(*(lmxd.grow(lease.lease, ctx=1024, slot=slot) for lease, slot, _ in talks))
        assert [(lease.instance, lease.instance_slots) for lease in grown] == [("m#2", 2)] * 2
        assert {lease.slot for lease in grown} == {0, 1}
        for lease, text in zip(grown, texts, strict=True):
            assert (await said(lease, text, id_slot=lease.slot))[1] == 1, "all but the last were cached"
        await h.until(lambda: left(h) == [])
        assert broken(h.state) == []


async def test_a_file_that_was_cut_meanwhile_is_not_read(tmp_path: Path) -> None:
    """The engine would end by it."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        play(h.directory, load_seconds=1)
        growing = asyncio.create_task(lmxd.grow(lease.lease, ctx=1024))
        await h.until(lambda: "starting" in h.phases().values())
        (file,) = (h.where.state / "moves").glob("*")
        os.truncate(file, file.stat().st_size - 1)
        grown = await growing
        assert (grown.instance, grown.slot) == ("m#2", None)
        assert (await said(grown, PROMPT + answer))[1] == len(PROMPT + answer)


async def test_meanwhile_it_is_shown_as_what_it_is(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, parked(h, lmxd) as (lease, _, _):
        (moving,) = (await lmxd.instances()).moving
        assert (moving.lease, moving.before, moving.instance) == (lease.lease, "m#1", "m#2")
        assert (moving.ctx, moving.ctx_wanted, moving.model) == (256, 1024, "m")
        assert (await lmxd.overview()).moving[0].before == "m#1"
        row = moving_row(moving)
        assert row[:4] == ("m#1", "-", "moving", "256→1k")
        assert row[-1] == "to m#2"
        assert len(left(h)) == 2, "its file, and the doorway of the instance that starts"
        for asked in (lmxd.status(), lmxd.overview(), lmxd.queue(), lmxd.explain(lease.lease), lmxd.models()):
            await asked
        assert broken(h.state) == []


async def test_meanwhile_it_can_be_renewed_asked_for_again_and_released(tmp_path: Path) -> None:
    keyed = {"hold": "explicit", "idempotency_key": "k"}
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as again, parked(h, lmxd, **keyed) as story:
        lease, _, growing = story
        assert (await lmxd.renew(lease.lease, instance=lease.instance)).moved is None
        with pytest.raises(LmxdError) as error:
            await again.request("m", hold="explicit", idempotency_key="k", wait=0.05)
        assert error.value.code == "wait_expired"
        with pytest.raises(LmxdError) as error:
            await lmxd.adopt(lease.lease, 1)
        assert error.value.code == "invalid_params"
        await lmxd.release(lease.lease)
        with pytest.raises(LmxdError) as error:
            await growing
        assert error.value.code == "cancelled"
        await h.until(lambda: not h.state.leases and not any(name.endswith(".bin") for name in left(h)))
        assert broken(h.state) == []


async def test_who_asks_for_it_again_has_it_when_it_is_there(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as again:
        lease = await lmxd.request("m", hold="explicit", idempotency_key="k")
        play(tmp_path, load_seconds=1)
        growing = asyncio.create_task(lmxd.grow(lease.lease, ctx=1024))
        await h.until(lambda: h.state.leases[lease.lease].parked is not None)
        same = await again.request("m", hold="explicit", idempotency_key="k")
        assert (same.lease, same.instance) == (lease.lease, (await growing).instance)


async def test_one_that_does_not_start_is_refused_and_the_lease_has_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    told = house(tmp_path)
    async with told.open() as h, h.client(on_notification=lambda *x: heard.append(x)) as lmxd:
        performer = h.daemon.performer
        carry_out = performer.carry_out

        def fails_once(decision: Decision) -> None:
            if isinstance(decision, StartInstance):
                breaks = {"exit": {"status": 1, "lines": ["no such thing"]}} if decision.instance == "m#2" else {}
                play(tmp_path, **breaks)
            carry_out(decision)

        monkeypatch.setattr(performer, "carry_out", fails_once)
        lease = await lmxd.request("m")
        answer, _ = await said(lease, PROMPT)
        with pytest.raises(LmxdError) as error:
            await lmxd.grow(lease.lease, ctx=1024)
        assert error.value.code == "launch_failed"
        await h.until(lambda: any(name == Notification.MOVED for name, _ in heard))
        (moved,) = [params for name, params in heard if name == Notification.MOVED]
        assert (moved["why"], moved["granted"]["ctx"], moved["before"]) == ("returned", 256, "m#1")
        granted = Granted.model_validate(moved["granted"])
        assert (await said(granted, PROMPT + answer))[1] == 1
        assert left(h) == []


async def test_one_for_which_nobody_asks_any_more_has_its_ask_made_again(tmp_path: Path) -> None:
    """Others have its bytes, and the configuration is read anew meanwhile."""
    model(tmp_path, "m", counts=True)
    profile = {"estimated_memory_gb": 2, "context_length": 1024, "elastic": {"start": 256}}
    gpu = card(4)
    async with House(tmp_path, FakeNvml(gpu), models={"m": profile}).open() as h, h.client() as lmxd:
        async with parked(h, lmxd) as (lease, answer, growing):
            growing.cancel()
            await h.until(lambda: [t.is_nobodys for t in h.state.tickets.values()] == [True])
            play(tmp_path)
            gpu.other = gpu.total - 2**29
            await lmxd.devices()
            (name,) = h.phases()
            launched = h.launched(name)
            assert launched is not None
            assert launched.process is not None
            os.kill(launched.process.pid, signal.SIGKILL)
            await h.until(lambda: not h.state.instances and len(h.state.queue) == 1)
            h.write(models={"m": profile | {"threads": 1}})
            await lmxd.reload()
            gpu.other = 0
            await h.until(lambda: h.state.leases[lease.lease].parked is None)
            moved = (await lmxd.renew(lease.lease, instance=lease.instance)).moved
            assert moved is not None
            assert (await said(moved, PROMPT + answer))[1] == 1
        assert broken(h.state) == []


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_restart_finds_it_and_its_conversation(tmp_path: Path, *, comes_back: bool) -> None:
    here = house(tmp_path)
    async with here.open(stays=True) as h, h.client() as lmxd, parked(h, lmxd, hold="explicit") as (lease, answer, _):
        assert [row.parked is not None for row in h.saved().leases] == [True]
    play(tmp_path)
    async with here.open() as h, h.client() as lmxd:
        if comes_back:
            assert (await lmxd.grow(lease.lease, ctx=1024)).ctx == 1024
        await h.until(lambda: h.state.leases[lease.lease].parked is None)
        moved = (await lmxd.renew(lease.lease, instance="m#1")).moved
        assert moved is not None
        assert (await said(moved, PROMPT + answer))[1] == 1
        await h.until(lambda: left(h) == [])
        assert broken(h.state) == []


SHRINKS = {"context_length": 1024, "slots": 8, "elastic": {"start": 256, "idle_shrink": 0.3}}
"""Two slots of 1,024 tokens, of which an idle instance keeps 256 each."""


@pytest.mark.parametrize("stays", [False, True], ids=["", "after a restart"])
async def test_all_that_lay_in_an_instance_goes_along_with_a_lease(tmp_path: Path, *, stays: bool) -> None:
    here = House(tmp_path, models={"m": SHRINKS}, gpu={"device": "host", "max_memory_gb": 2})
    model(tmp_path, "m", counts=True)
    texts: list[str] = []
    async with here.open(stays=stays) as h, h.client() as lmxd:
        lease = await lmxd.request("m", ctx=1024, hold="explicit")
        assert lease.instance_slots == 2
        for slot, who in enumerate("ab"):
            texts.append(who * 40 + (await said(lease, who * 40, id_slot=slot))[0])
        play(tmp_path, load_seconds=60 if stays else 0)
        await h.until(lambda: h.state.leases[lease.lease].parked is not None)
        assert len(h.state.leases[lease.lease].parked.carries) == 2
        if not stays:
            await goes_on(h, lmxd, lease, texts)
            return
        await h.until(lambda: "starting" in h.phases().values())
    play(tmp_path)
    async with here.open() as h, h.client() as lmxd:
        await goes_on(h, lmxd, lease, texts)


async def goes_on(h: House, lmxd: AsyncClient, lease: AsyncLease, texts: list[str]) -> None:
    """What was said in each slot is known where the lease is now."""
    await h.until(lambda: h.state.leases[lease.lease].parked is None)
    moved = (await lmxd.renew(lease.lease, instance="m#1")).moved
    assert moved is not None
    assert (moved.ctx, moved.instance_slots, moved.slot) == (256, 2, None)
    assert sorted(slot for slot, _ in moved.carried) == [0, 1]
    for before, now in moved.carried:
        assert (await said(moved, texts[before], id_slot=now))[1] == 1
    await h.until(lambda: left(h) == [])
    assert broken(h.state) == []


async def test_who_uses_leases_again_hears_where_conversations_went_and_nobody_else_does(tmp_path: Path) -> None:
    model(tmp_path, "m", counts=True)
    here = House(tmp_path, models={"m": SHRINKS}, gpu={"device": "host", "max_memory_gb": 2})
    heard: list[tuple[str, str, dict[str, Any]]] = []

    def hears(who: str) -> Any:
        return lambda name, params: heard.append((who, name, params))

    async with (
        here.open() as h,
        h.client(on_notification=hears("again")) as again,
        h.client(on_notification=hears("once")) as once,
    ):
        for client, reuse, slot in ((once, False, 0), (again, True, 1)):
            async with await client.request("m", ctx=1024, reuse=reuse) as lease:
                await said(lease, "a" * 40, id_slot=slot)
        await h.until(lambda: [name for _, name, _ in heard].count(Notification.SHRUNK) == 2)
        found = [(who, params) for who, name, params in heard if name == Notification.SHRUNK]
        told = {"model": "m", "before": "m#1", "ctx": 256, "instance_slots": 2, "slots": [[0, 0], [1, 1]]}
        assert found == [("again", told | {"instance": name}) for name in ("m#1", "m#2")], "it ends, and is another"
