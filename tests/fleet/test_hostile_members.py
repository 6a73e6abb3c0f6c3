"""A member that says on NATS what it may not: by ways that lead around its permissions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from fleet_broker import Broker
from fleet_cards import cards_there
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError
from waiting import GENEROUS, until

from lmxd.errors import LmxdError
from lmxd.fleet import bus, clock, names
from lmxd.fleet.calls import CallName, error_of, subject
from lmxd.fleet.choosing.shares import FleetShares
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.hearing import Hearing
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.node.removed import Removed
from lmxd.fleet.node.services import NodeServices
from lmxd.fleet.reports import Heartbeat, NodeCard, UserUse
from lmxd.listening.connections import Connections
from lmxd.rpc.administrators import Drained

NODE, GATEWAY, OPERATOR = MemberRole.NODE, MemberRole.GATEWAY, MemberRole.OPERATOR
CARD = f"$KV.{names.BUCKET}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as made:
        yield made


@pytest.fixture
async def held() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def _connected(held: AsyncExitStack, home: FleetHome, role: MemberRole) -> Client:
    client = await bus.connect(home, role)
    held.push_async_callback(client.close)
    return client


@pytest.mark.parametrize("role", [NODE, GATEWAY, OPERATOR])
async def test_what_a_node_keeps_is_not_sent_to_others_in_its_stead(
    broker: Broker, held: AsyncExitStack, role: MemberRole
) -> None:
    """A server's answer has no permissions: whoever may ask for a card could name any subject as the one for that."""
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    asking = rogue if role is NODE else await _connected(held, broker.box("a1", [role]), role)
    listening = await _connected(held, broker.box("n1", [NODE]), NODE)
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    aims = [subject("n1", CallName.DRAIN), names.REMOVED]
    for aim in aims:
        await listening.subscribe(aim, cb=hear)
    await listening.flush()
    bucket = await rogue.jetstream().key_value(names.BUCKET)
    await bucket.put("n2", b"[]")
    asks = [(f"$JS.API.DIRECT.GET.KV_{names.BUCKET}.{CARD}.n2", b"")]
    asks += [(f"$JS.API.DIRECT.GET.KV_{names.BUCKET}", b'{"last_by_subj":"%s.n2"}' % CARD.encode())]
    for aim in aims:
        for ask, said in asks:
            await asking.publish(ask, said, reply=aim)
    await asking.flush()
    with suppress(Error):
        await asking.request(names.BUCKET, b"", timeout=0.3)
    await listening.flush()
    assert [message.data for message in heard] == []


AIMS = [names.REMOVED, names.heartbeat("n1"), subject("n1", CallName.DRAIN), f"{CARD}.n1", "$SRV.PING"]


async def test_a_node_answers_a_gateway_or_an_operator_and_nobody_else(broker: Broker, held: AsyncExitStack) -> None:
    """Whoever asks it may name any subject as the one for the answer: together they would speak for all others."""
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    asking = await _connected(held, broker.box("g1", [GATEWAY]), GATEWAY)
    listening = {
        names.REMOVED: await _connected(held, broker.box("n1", [NODE]), NODE),
        names.heartbeat("n1"): await _connected(held, broker.box("g2", [GATEWAY]), GATEWAY),
    }
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    async def answer(message: Msg) -> None:
        await rogue.publish(message.reply, b"a lie")

    await rogue.subscribe(subject("n2", CallName.PLAN), cb=answer)
    await rogue.flush()
    for aim in AIMS:
        client = listening.get(aim, listening[names.REMOVED])
        await client.subscribe(aim, cb=hear)
        await client.flush()
        await asking.publish(subject("n2", CallName.PLAN), b"", reply=aim)
    said = await asking.request(subject("n2", CallName.PLAN), b"", timeout=GENEROUS)
    assert said.data == b"a lie"
    await rogue.flush()
    for client in listening.values():
        await client.flush()
    assert heard == []


async def test_what_nats_keeps_is_no_word_of_the_authority(
    broker: Broker, held: AsyncExitStack, tmp_path: Path
) -> None:
    """A gateway may have all cards sent to a subject that it names, and a node's card may say anything."""
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    asking = await _connected(held, broker.box("g1", [GATEWAY]), GATEWAY)
    listening = await _connected(held, broker.box("n1", [NODE]), NODE)
    removed = Removed(tmp_path / "removed.json", Connections(strangers=1, known=1))
    await removed.hear(listening)
    drained: list[str] = []

    async def drain(**_: object) -> Drained:
        drained.append("n1")
        raise LmxdError("draining", "it drains already")

    lmxd, nobody = SimpleNamespace(drain=drain), SimpleNamespace(request=None, copy=None)
    services = NodeServices("n1", lmxd, nobody, nobody, 1)  # type: ignore[arg-type]
    await services.begin(listening)
    heard = asyncio.Event()

    async def hear(message: Msg) -> None:
        heard.set()

    await listening.subscribe(names.REMOVED, cb=hear)
    await listening.flush()
    removal = b'["%s"]' % (b"a" * 64)
    for aim, group, said in ((subject("n1", CallName.DRAIN), "q", b"{}"), (names.REMOVED, None, removal)):
        await (await rogue.jetstream().key_value(names.BUCKET)).put("n2", said)
        config = ConsumerConfig(
            deliver_subject=aim, deliver_group=group, deliver_policy=DeliverPolicy.LAST, ack_policy=AckPolicy.NONE
        )
        await asking.jetstream().add_consumer(f"KV_{names.BUCKET}", config=config)
    await asyncio.wait_for(heard.wait(), GENEROUS)
    await listening.flush()
    assert (drained, (tmp_path / "removed.json").exists()) == ([], False)


@pytest.mark.parametrize("word", ["all", "sub"])
async def test_a_node_takes_no_card_of_others_away(broker: Broker, held: AsyncExitStack, word: str) -> None:
    """By the word with which a message replaces all before it."""
    one = await _connected(held, broker.box("n1", [NODE]), NODE)
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    bucket = await one.jetstream().key_value(names.BUCKET)
    await bucket.put("n1", b"mine")
    with pytest.raises(APIError, match="rollup"):
        await rogue.jetstream().publish(f"{CARD}.n2", b"", headers={"Nats-Rollup": word})
    listening = await _connected(held, broker.box("g1", [GATEWAY]), GATEWAY)
    assert (await cards_there(listening))["n1"] == b"mine"


@pytest.mark.parametrize("said", [b'{"node": "\xff"}', b'{"x":' + b"[" * 100_000, b"{}", b"[]", b"null"])
async def test_a_card_that_is_none_ends_no_gateway(broker: Broker, held: AsyncExitStack, said: bytes) -> None:
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    honest = await _connected(held, broker.box("n3", [NODE]), NODE)
    listening = await _connected(held, broker.box("g1", [GATEWAY]), GATEWAY)
    bucket = await rogue.jetstream().key_value(names.BUCKET)
    await bucket.put("n2", said)
    await rogue.publish(names.heartbeat("n2"), said)
    table = NodeTable()
    hearing = asyncio.create_task(Hearing(table, lambda _, __: None, clock.now).run(listening))
    held.callback(hearing.cancel)
    card = NodeCard(node="n3", address="127.0.0.1:1", version="1", started="s")
    await (await honest.jetstream().key_value(names.BUCKET)).put("n3", msgspec.json.encode(card))
    await until(lambda: "n3" in table.nodes or hearing.done())
    assert not hearing.done()


@pytest.mark.parametrize("said", [b"", b"{}", b"[]", b'{"code": []}', b'{"code":' + b"[" * 100_000], ids=range(5))
def test_an_error_that_is_none_is_a_bad_answer(said: bytes) -> None:
    assert error_of(said).code == "bad_answer"


async def test_a_node_holds_no_user_at_its_limits_by_what_it_has_not(broker: Broker, held: AsyncExitStack) -> None:
    rogue = await _connected(held, broker.box("n2", [NODE]), NODE)
    listening = await _connected(held, broker.box("g1", [GATEWAY]), GATEWAY)
    table, heard = NodeTable(), asyncio.Event()
    table.hear_card(NodeCard(node="n2", address="127.0.0.1:1", version="1", started="s"))
    hearing = Hearing(table, lambda _, __: heard.set(), clock.now)
    held.callback(asyncio.create_task(hearing.run(listening)).cancel)
    lie = {"ada": UserUse(use=1e30, bytes=2**62, leases=2**62, waiting=2**62)}
    for number in itertools.count(1):
        beat = Heartbeat(node="n2", started="s", number=number, sent=clock.now(), users=lie)
        await rogue.publish(names.heartbeat("n2"), msgspec.json.encode(beat))
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), 0.2)
            break
    assert FleetShares(table).had("ada", clock.now()) == UserUse()
