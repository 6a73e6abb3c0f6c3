"""Two gateways of a fleet under a load of clients: one is frozen or killed, nodes come and go, and strangers knock."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import nats
import pytest
from fleet_boxes import Boxes, FleetGateway, boxes
from fleet_home import box
from fleet_load import FleetLoad
from fleet_node import free_address
from nats.errors import Error
from waiting import until

from fleet.reported import beat
from lmxd.fleet import bus, names
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.tls import client_context

NODES = ("n1", "n2")
NODE, GATEWAY = MemberRole.NODE, MemberRole.GATEWAY
MODEL = {"m": {"slots": 4, "play": {"token_seconds": 0.02}}}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Pair(SimpleNamespace):
    """A fleet with two gateways, of which the fleet's own is the first."""

    fleet: Boxes
    second: FleetGateway

    @asynccontextmanager
    async def load(self, gateway: FleetGateway) -> AsyncIterator[FleetLoad]:
        """Clients of one gateway, who were served by both nodes when the block begins."""
        load = FleetLoad(gateway.url, gateway.key, clients=4)
        async with load.going_on():
            await until(lambda: load.each_is_served_by(NODES), seen=load.shown)
            yield load


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        fleet = stack.enter_context(boxes(directory, dict.fromkeys(NODES, MODEL)))
        section = {"listen": free_address(), "keys_file": str(directory / "other-keys")}
        second = stack.enter_context(FleetGateway(fleet.broker.box("g2", [GATEWAY], gateway=section)))
        fleet.warm()
        yield Pair(fleet=fleet, second=second)


def held(pair: Pair) -> int:
    return sum(len(each.leases) for lmxd in pair.fleet.lmxds.values() for each in lmxd.instances().values())


async def test_a_frozen_gateway_goes_on_when_it_is_thawed(pair: Pair) -> None:
    """Longer than nodes may be silent: what they said meanwhile is heard then."""
    pid = pair.fleet.gateway.process.pid
    async with pair.load(pair.fleet.gateway) as frozen, pair.load(pair.second) as others:
        os.kill(pid, signal.SIGSTOP)
        fell_at = time.monotonic()
        try:
            await until(lambda: others.each_has(3, fell_at) and time.monotonic() > fell_at + 5, seen=others.shown)
        finally:
            os.kill(pid, signal.SIGCONT)
        thawed_at = time.monotonic()
        await until(lambda: frozen.each_has(2, thawed_at), seen=frozen.shown)
    assert (frozen.broken(), others.broken()) == ([], [])


async def test_clients_of_another_gateway_notice_nothing_of_one_that_is_killed(pair: Pair) -> None:
    first = pair.fleet.gateway
    async with pair.load(pair.second) as others:
        async with pair.load(first):
            first.process.kill()
            first.process.wait()
            fell_at = time.monotonic()
            await until(lambda: others.each_has(3, fell_at), seen=others.shown)
            await asyncio.to_thread(first.__enter__)
        async with pair.load(first) as again:
            pass
    assert (again.broken(), others.broken()) == ([], [])
    await until(lambda: held(pair) == 0)


async def test_a_node_joins_and_leaves(pair: Pair) -> None:
    async with pair.load(pair.second) as load:
        node = await asyncio.to_thread(pair.fleet.join, "n3", MODEL)
        await until(lambda: "n3" in pair.second.nodes_of("m"))
        await asyncio.to_thread(pair.fleet.warm)
        await until(lambda: load.each_is_served_by(("n3",)), seen=load.shown)
        assert await asyncio.to_thread(node.end) == 0
        left_at = time.monotonic()
        await until(lambda: load.each_has(3, left_at), seen=load.shown)
        del pair.fleet.nodes["n3"]
    assert load.broken() == []


class Strangers:
    """Who is not to come in, each with what it tries. Each returns when it was refused."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        broker = pair.fleet.broker
        self._door, self._at = pair.fleet.nodes["n1"], [broker.url]
        self._other = box(Authority.new("home"), directory / "other", "g1", [NODE, GATEWAY], brokers=self._at)
        self._other.ca.write_bytes(broker.authority.certificate)
        self._node = broker.box("n8", [NODE])
        self._gone = broker.box("g9", [GATEWAY])
        broker.forget(self._gone.member(GATEWAY))
        long_ago = datetime.now(UTC) - timedelta(days=91)
        self._old = box(broker.authority, directory / "old", "g1", [GATEWAY], now=long_ago, brokers=self._at)
        self.ways = (self.another_authority, self.too_old, self.removed, self.another_role, self.another_name)

    async def _no_tls(self, home: FleetHome, role: MemberRole) -> None:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await self._door.asked("/v1/models", None, client_context(home, role))

    async def _no_nats(self, home: FleetHome, role: MemberRole) -> None:
        with pytest.raises((Error, OSError)):
            await nats.connect(
                self._at,
                tls=client_context(home, role),
                tls_hostname=any_host("home", MemberRole.BROKER),
                allow_reconnect=False,
                connect_timeout=60,
            )

    async def another_authority(self) -> None:
        for role in (NODE, GATEWAY):
            await self._no_tls(self._other, role)
            await self._no_nats(self._other, role)

    async def too_old(self) -> None:
        await self._no_tls(self._old, GATEWAY)
        await self._no_nats(self._old, GATEWAY)

    async def removed(self) -> None:
        await self._no_nats(self._gone, GATEWAY)

    async def another_role(self) -> None:
        answer = await self._door.ask("/v1/chat/completions", CHAT, by=self._node, role="node")
        assert (answer.status, answer.json["error"]["code"]) == (403, "not_permitted")

    async def another_name(self) -> None:
        """A member that says of others that they drain, and takes their card away."""
        client: Any = await bus.connect(self._node, NODE)
        for name in NODES:
            lie = beat(name, 10**9, 1e9, started="x", draining=True)
            await client.publish(names.heartbeat(name), msgspec.json.encode(lie))
            await client.publish(f"$KV.{names.BUCKET}.{name}", b"", headers={"KV-Operation": "DEL"})
        await client.flush(60)
        await client.close()


async def test_strangers_get_in_nowhere_and_clients_notice_nothing(pair: Pair, tmp_path: Path) -> None:
    chance = random.Random(24)
    strangers = await asyncio.to_thread(Strangers, pair, tmp_path)
    async with pair.load(pair.second) as load:
        for way in (*strangers.ways, *chance.choices(strangers.ways, k=15)):
            await way()
        tried_at = time.monotonic()
        await until(lambda: load.each_has(2, tried_at), seen=load.shown)
        await until(lambda: load.each_is_served_by(NODES, tried_at), seen=load.shown)
    assert load.broken() == []
    assert pair.second.nodes_of("m") == set(NODES)
