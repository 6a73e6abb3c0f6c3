"""A member that says on NATS what it may not: by ways that lead around its permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress

import msgspec
import pytest
from fleet_broker import Broker
from fleet_cards import cards_there
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import APIError
from waiting import until

from lmxd.fleet import bus, clock, names
from lmxd.fleet.calls import CallName, subject
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.hearing import Hearing
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.reports import NodeCard

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
