"""Cards and heartbeats tell what lmxd says: what a box has, what is free, and what could be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card

from lmxd.fleet.node.observing import NodeLook, heartbeat, offered, running, users
from lmxd.fleet.reports import Heartbeat, Offered, UserUse
from lmxd.rpc.books import InstanceInfo, LeaseInfo, UserInfo
from lmxd.rpc.client import AsyncClient

GIB = 2**30
ME = 4711


async def beat(client: AsyncClient) -> Heartbeat:
    found = (await client.instances()).instances
    look = NodeLook(await client.status(), tuple(found))
    return heartbeat(look, ME, node="n1", started="s", number=1, now=5.0)


async def models(client: AsyncClient) -> dict[str, Offered]:
    return {model.model: model for model in offered((await client.models()).models)}


@contextlib.asynccontextmanager
async def at_work(directory: Path, *cards: Any, **sections: Any) -> AsyncIterator[tuple[House, AsyncClient]]:
    house = House(directory, FakeNvml(*cards), **sections)
    async with house.open(), house.client() as client:
        yield house, client


async def test_a_card_says_what_a_model_needs_in_the_way_that_is_tried_first(tmp_path: Path) -> None:
    sections = {"models": {"a": {"aliases": ["first"], "slots": 2}, "gone": {"path": "/nowhere/x.gguf"}}}
    async with at_work(tmp_path, card(uuid="GPU-a"), card(uuid="GPU-b"), **sections) as (_, client):
        found = await models(client)
        assert set(found) == {"a"}, "what would be refused is not offered"
        assert (found["a"].names, found["a"].slots) == (("a", "first"), 2)
        assert found["a"].capabilities == ("completion",)
        assert list(found["a"].needs) == ["GPU-a"], "one of two cards alike, not both"
        lease = await client.request("a")
        assert found["a"].needs == lease.devices
        assert found["a"].load > 0
        assert found["a"].ctx == found["a"].ctx_most == lease.ctx


async def test_two_boxes_have_one_digest_for_the_same_file_and_settings(tmp_path: Path) -> None:
    digests = {}
    for box, settings in (("n1", {}), ("n2", {}), ("n3", {"context_length": 2048})):
        (tmp_path / box).mkdir()
        async with at_work(tmp_path / box, card(), models={"a": settings}) as (_, client):
            digests[box] = (await models(client))["a"].digest
    assert digests["n1"] == digests["n2"] != digests["n3"]


async def test_a_heartbeat_follows_a_lease(tmp_path: Path) -> None:
    async with at_work(tmp_path, card(24), models={"a": {"slots": 2, "idle_timeout": 60}}) as (_, client):
        (before,) = (await beat(client)).rooms
        assert (before.capacity, before.idle) == (24 * GIB, 0)
        assert (await beat(client)).running == ()
        lease = await client.request("a")
        during = await beat(client)
        (size,) = lease.devices.values()
        assert [(x.model, x.slots, x.vacant, x.loading) for x in during.running] == [("a", 2, 1, False)]
        assert during.rooms[0].free <= before.free - size
        assert during.rooms[0].idle == 0, "it is in use"
        await client.release(lease.lease)
        after = await beat(client)
        assert after.running[0].vacant == 2
        assert after.rooms[0].idle == size, "nobody uses it any more, and it may end"


async def test_a_pinned_instance_is_not_idle_for_others(tmp_path: Path) -> None:
    async with at_work(tmp_path, card(24), models={"a": {"pin": True}}) as (_, client):
        await client.release((await client.request("a")).lease)
        found = await beat(client)
        assert (found.running[0].vacant, found.rooms[0].idle) == (1, 0)


async def test_an_exclusive_lease_leaves_no_vacant_slot(tmp_path: Path) -> None:
    async with at_work(tmp_path, card(24), models={"a": {"slots": 4}}) as (_, client):
        await client.request("a", exclusive=True)
        assert (await beat(client)).running[0].vacant == 0


async def test_a_heartbeat_says_who_waits_and_that_it_drains(tmp_path: Path) -> None:
    async with at_work(tmp_path, card(1.5), models={"a": {}, "b": {}}) as (house, client):
        await client.request("a")
        assert (await beat(client)).eta == 0.0
        async with house.client() as other:
            waiting = asyncio.get_running_loop().create_task(other.request("b"))
            await house.until(lambda: len(house.state.queue) == 1)
            found, (ticket,) = await beat(client), (await client.queue()).tickets
            assert found.waiting == 1
            assert found.eta == pytest.approx(ticket.eta or 0.0, abs=1)
            waiting.cancel()
        await client.drain()
        assert (await beat(client)).draining


def instance(*leases: LeaseInfo, **more: Any) -> InstanceInfo:
    said: dict[str, Any] = {
        "instance": "i",
        "model": "a",
        "engine": "llama.cpp",
        "phase": "ready",
        "ctx": 1,
        "slots": 4,
    }
    said |= {"busy": False, "idle": 0, "idle_timeout": 1, "age": 1, "promised": {}, "charged": {}}
    return InstanceInfo(**said | {"leases": list(leases)} | more)


def test_holds_and_what_ends_serve_nobody() -> None:
    assert running([instance(engine=None), instance(phase="stopping"), instance(phase="reclaiming")]) == ()


def test_what_loads_is_told_apart_from_what_is_ready() -> None:
    found = running([instance(vacant=1), instance(vacant=4, phase="starting"), instance(vacant=2)])
    assert [(x.vacant, x.slots, x.loading) for x in found] == [(3, 8, False), (4, 4, True)]


def user(name: str | None, uid: int = ME, **more: float) -> UserInfo:
    return UserInfo.model_validate({"uid": uid, "user": name, "use": 0, "bytes": 0, "leases": 0, "waiting": 0} | more)


def test_users_are_those_for_whom_the_node_asks() -> None:
    found = users([user("ada", use=7, bytes=5, leases=1), user(None, use=9), user("ada", uid=1, use=3)], ME)
    assert found == {"ada": UserUse(use=7, bytes=5, leases=1)}


def test_of_many_users_those_who_have_something_are_named_first() -> None:
    many = [user(f"u{n}", use=n) for n in range(1000)]
    found = users([*many, user("late", waiting=1), user("busy", leases=1)], ME)
    assert len(found) == 256
    assert {"late", "busy", "u999"} <= found.keys()
    assert "u0" not in found
