"""Members on a real nats-server: each is heard as itself alone, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from fleet_broker import Broker
from fleet_home import box
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.errors import Error, NoRespondersError
from nats.errors import TimeoutError as Late
from waiting import GENEROUS, until

from lmxd.fleet import bus, names
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.calls import CallName, subject
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.tls import client_context

NODE, GATEWAY, OPERATOR = MemberRole.NODE, MemberRole.GATEWAY, MemberRole.OPERATOR
HEARD = 0.3
"""Seconds in which a message that is let through has long come: here it takes a thousandth of that."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as made:
        yield made


class Bus:
    """Connections that are closed at the end, with the refusals that they were told."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    async def __call__(self, home: FleetHome, role: MemberRole) -> Client:
        client = await bus.connect(home, role)
        self.clients.append(client)
        return client


@pytest.fixture
async def connected() -> AsyncIterator[Bus]:
    made = Bus()
    yield made
    for client in made.clients:
        await client.close()


async def test_a_heartbeat_is_heard_from_its_own_node_alone(broker: Broker, connected: Bus) -> None:
    one, two = broker.box("n1", [NODE]), broker.box("n2", [NODE])
    listening = await connected(broker.box("g1", [GATEWAY]), GATEWAY)
    heard: list[tuple[str, bytes]] = []

    async def hear(message: Msg) -> None:
        heard.append((message.subject, message.data))

    await listening.subscribe(names.HEARTBEATS, cb=hear)
    await listening.flush()
    rogue, honest = await connected(two, NODE), await connected(one, NODE)
    await rogue.publish(names.heartbeat("n1"), b"a lie")
    await rogue.publish(names.heartbeat("n2"), b"of itself")
    await rogue.flush()
    await honest.publish(names.heartbeat("n1"), b"true")
    await until(lambda: len(heard) == 2)
    assert sorted(heard) == [("lmxd.heartbeat.n1", b"true"), ("lmxd.heartbeat.n2", b"of itself")]


async def test_a_node_may_neither_hear_nor_answer_for_another(broker: Broker, connected: Bus) -> None:
    one, two = broker.box("n1", [NODE]), broker.box("n2", [NODE])
    asking = await connected(broker.box("g1", [GATEWAY]), GATEWAY)
    honest, rogue = await connected(one, NODE), await connected(two, NODE)

    async def answer(message: Msg) -> None:
        await message.respond(b"mine")

    async def answer_falsely(message: Msg) -> None:
        await message.respond(b"a lie")

    await honest.subscribe(subject("n1", CallName.PLAN), cb=answer)
    for wanted in (subject("n1", CallName.PLAN), "lmxd.node.>", "_INBOX.>", "_INBOX.gateway.g1.>", "$KV.>", ">"):
        await rogue.subscribe(wanted, cb=answer_falsely)
    await rogue.flush()
    await honest.flush()
    answers = [(await asking.request(subject("n1", CallName.PLAN), b"", timeout=GENEROUS)).data for _ in range(20)]
    assert answers == [b"mine"] * 20
    with pytest.raises(Late):
        await rogue.request(subject("n1", CallName.PLAN), b"", timeout=HEARD)


async def test_only_a_broker_says_who_was_removed(broker: Broker, connected: Bus) -> None:
    node = await connected(broker.box("n1", [NODE]), NODE)
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await node.subscribe(names.REMOVED, cb=hear)
    await node.flush()
    for role in (NODE, GATEWAY, OPERATOR):
        rogue = await connected(broker.box("r1", [role]), role)
        await rogue.publish(names.REMOVED, b"a lie")
        await rogue.flush()
    honest = await connected(broker.home, MemberRole.BROKER)
    await honest.publish(names.REMOVED, b"true")
    await until(lambda: heard)
    assert heard == [b"true"]


@pytest.mark.parametrize("role", [NODE, GATEWAY])
async def test_only_an_operator_drains(broker: Broker, connected: Bus, role: MemberRole) -> None:
    drained = []

    async def drain(message: Msg) -> None:
        drained.append(message.data)
        await message.respond(b"done")

    node = await connected(broker.box("n1", [NODE]), NODE)
    await node.subscribe(subject("n1", CallName.DRAIN), cb=drain)
    await node.flush()
    other = await connected(broker.box("n3", [role]), role)
    with pytest.raises(Late):
        await other.request(subject("n1", CallName.DRAIN), b"forbidden", timeout=HEARD)
    operator = await connected(broker.box("o1", [OPERATOR]), OPERATOR)
    assert (await operator.request(subject("n1", CallName.DRAIN), b"allowed", timeout=GENEROUS)).data == b"done"
    assert drained == [b"allowed"]


async def test_cards(broker: Broker, connected: Bus) -> None:
    """A node puts its own, and no other; a gateway watches all, and puts none."""
    one, two = broker.box("n1", [NODE]), broker.box("n2", [NODE])
    node, rogue = await connected(one, NODE), await connected(two, NODE)
    gateway = await connected(broker.box("g1", [GATEWAY]), GATEWAY)
    cards = await node.jetstream().key_value(names.BUCKET)
    await cards.put("n1", b"mine")
    for liar in (rogue, gateway):
        stream = liar.jetstream(timeout=HEARD)
        for said, headers in ((b"a lie", {}), (b"", {"KV-Operation": "DEL"})):
            with pytest.raises(Late):
                await stream.publish(f"$KV.{names.BUCKET}.n1", said, headers=headers)
        with pytest.raises(Late):
            await stream.delete_stream(f"KV_{names.BUCKET}")
    watching = await (await gateway.jetstream().key_value(names.BUCKET)).watchall()
    seen = (entry async for entry in watching if entry is not None)  # None: that was all there is
    first = await asyncio.wait_for(anext(seen), GENEROUS)
    assert (first.key, first.value) == ("n1", b"mine")
    await cards.put("n1", b"again")
    assert (await asyncio.wait_for(anext(seen), GENEROUS)).value == b"again"


async def refused(home: FleetHome, role: MemberRole, fleet: str = "home") -> Exception:
    """What a connection comes to that is not tried again."""
    with pytest.raises((Error, OSError)) as found:
        await nats.connect(
            list(home.settings.brokers),
            tls=client_context(home, role),
            tls_hostname=any_host(fleet, MemberRole.BROKER),
            allow_reconnect=False,
            connect_timeout=60,
        )
    return found.value


async def test_certificates_that_count_for_nothing(broker: Broker, tmp_path: Path) -> None:
    at = [broker.url]
    other = box(Authority.new("home"), tmp_path / "a", "n1", [NODE], brokers=at)
    assert isinstance(await refused(other, NODE), ssl.SSLCertVerificationError)
    other.ca.write_bytes(broker.authority.certificate)
    await refused(other, NODE)
    long_ago = datetime.now(UTC) - timedelta(days=91)
    expired = box(broker.authority, tmp_path / "b", "n1", [NODE], now=long_ago, brokers=at)
    broker.admit(expired, NODE)
    await refused(expired, NODE)
    stranger = box(broker.authority, tmp_path / "c", "n9", [NODE], brokers=at)  # signed, but of no member any more
    assert "authorization violation" in str(await refused(stranger, NODE)).lower()


async def test_a_member_that_is_forgotten_is_cut_and_comes_back_with_its_subscriptions(
    broker: Broker, connected: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    home = broker.box("n7", [NODE])
    gateway = await connected(broker.box("g1", [GATEWAY]), GATEWAY)
    events: list[str] = []

    async def lost() -> None:
        events.append("lost")

    async def found() -> None:
        events.append("found")

    async def answer(message: Msg) -> None:
        await message.respond(b"here")

    client = await bus.connect(home, NODE, lost=lost, found=found)
    connected.clients.append(client)
    await client.subscribe(subject("n7", CallName.PS), cb=answer)
    await client.flush()
    await asyncio.to_thread(broker.forget, home.member(NODE))
    await until(lambda: "lost" in events)
    await until(lambda: "if this box was removed" in caplog.text)
    with pytest.raises(NoRespondersError):
        await gateway.request(subject("n7", CallName.PS), b"", timeout=GENEROUS)
    await asyncio.to_thread(broker.admit, home, NODE)
    await until(lambda: "found" in events)
    assert (await gateway.request(subject("n7", CallName.PS), b"", timeout=GENEROUS)).data == b"here"


async def test_a_former_key_is_cut_and_let_in_no_more_by_the_name_that_another_box_has(
    broker: Broker, connected: Bus, tmp_path: Path
) -> None:
    """Its certificate counts for months, and names the same member."""
    former = broker.box("n8", [NODE])
    at = broker.directory / "n8"
    shutil.copytree(at, tmp_path / "stolen")
    stolen = FleetHome.at(tmp_path / "stolen", user=False)
    lost = asyncio.Event()

    async def gone() -> None:
        lost.set()

    connected.clients.append(await bus.connect(former, NODE, lost=gone))
    await asyncio.to_thread(broker.box, "n8", [NODE])
    await asyncio.wait_for(lost.wait(), GENEROUS)
    assert "authorization violation" in str(await refused(stolen, NODE)).lower()
    await (await connected(broker.box("n8", [NODE]), NODE)).flush()


async def test_a_client_waits_for_a_broker_and_outlives_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(tmp_path)
    home = broker.box("n1", [NODE])
    events: list[str] = []

    async def lost() -> None:
        events.append("lost")

    async def found() -> None:
        events.append("found")

    coming = asyncio.create_task(bus.connect(home, NODE, lost=lost, found=found))
    await asyncio.to_thread(broker.start)
    client = await coming
    await asyncio.to_thread(broker.end, signal.SIGKILL)
    await until(lambda: "lost" in events)
    await asyncio.to_thread(broker.start)
    await until(lambda: "found" in events)
    await client.flush()
    await client.close()
    assert "NATS is lost" in caplog.text
    assert not [each for each in caplog.records if each.name == "asyncio"], "it says the same each second"
    broker.end()


async def test_a_connection_that_is_given_up_while_it_is_made(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11's wait_for, by which nats-py connects, may drop a cancellation that comes with an answer."""
    connect, begun = bus.LastingClient.connect, asyncio.Event()

    async def dropping(client: Client, *servers: Any, **options: Any) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await connect(client, *servers, **options)

    monkeypatch.setattr(bus.LastingClient, "connect", dropping)
    made = asyncio.create_task(bus.connect(broker.box("g1", [GATEWAY]), GATEWAY))
    await begun.wait()
    made.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(made, GENEROUS)


async def test_the_end_of_a_connection_is_no_news(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    close = TcpTransport.wait_closed

    async def complaining(transport: TcpTransport) -> None:
        await close(transport)  # type: ignore[no-untyped-call]
        raise ssl.SSLError("application data after close notify")

    client = await bus.connect(broker.box("g1", [GATEWAY]), GATEWAY)
    monkeypatch.setattr(TcpTransport, "wait_closed", complaining)
    with caplog.at_level(logging.WARNING):
        await client.close()
    assert caplog.text == ""


async def test_a_broker_that_says_nothing_is_said_to(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """An error without words would leave the line without a reason."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        home = broker.box("n8", [NODE], brokers=[f"tls://127.0.0.1:{silent.getsockname()[1]}"])
        trying = asyncio.create_task(bus.connect(home, NODE))
        await until(lambda: "is tried again: no answer in time" in caplog.text)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
