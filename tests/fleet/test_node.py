"""A node on NATS: its card and heartbeats, the calls that it answers, and what becomes of it when parts are gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from fleet_broker import Broker
from fleet_cards import cards_there
from fleet_node import Node
from free_ports import free_address
from house import fake_engine, model
from lmxd_process import Lmxd
from nats.aio.client import Client as Bus
from nats.js.errors import BucketNotFoundError
from waiting import GENEROUS, until

from lmxd.errors import LmxdError
from lmxd.fleet import bus, names
from lmxd.fleet.calls import CallName, Direct, LeaseCall, ask
from lmxd.fleet.home import FleetHome
from lmxd.fleet.lease_door import LeaseDoor
from lmxd.fleet.members import MemberRole
from lmxd.fleet.node.agent import Agent, NodeIdentity
from lmxd.fleet.reports import Heartbeat, NodeCard, UserUse
from lmxd.fleet.tls import nodes_context
from lmxd.rpc.administrators import Drained, DrainParams
from lmxd.rpc.books import Instances, QueueInfo
from lmxd.rpc.explanations import Planned, PlanParams
from lmxd.rpc.messages import Nothing, Params, Result

CHAT = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}


class Place(SimpleNamespace):
    """A broker, a box with lmxd and a node, and the home of a box that is gateway and operator."""

    broker: Broker
    lmxd: Lmxd
    node: Node
    member: FleetHome


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("fleet")
    model(directory, "a")
    model(directory, "held", until=str(directory / "gate"))
    config = {"model_dir": str(directory), "engine": {"path": str(fake_engine(directory))}}
    config |= {"models": {"a": {"slots": 2, "aliases": ["first"]}, "held": {}}}
    with Broker(directory) as broker:
        home = broker.box("n1", [MemberRole.NODE], door=free_address(), labels={"room": "attic"})
        member = broker.box("g1", [MemberRole.GATEWAY, MemberRole.OPERATOR])
        with Lmxd(directory, config) as lmxd, Node(lmxd, home) as node:
            yield Place(broker=broker, lmxd=lmxd, node=node, member=member)


class Hearing:
    """A gateway that hears the fleet: the cards that are there, and the heartbeats that came."""

    def __init__(self, client: Bus) -> None:
        self.client = client
        self.beats: list[Heartbeat] = []

    async def heard(self, message: Any) -> None:
        self.beats.append(msgspec.json.decode(message.data, type=Heartbeat))

    async def card(self, node: str = "n1") -> NodeCard | None:
        found = (await cards_there(self.client)).get(node)
        return None if found is None else msgspec.json.decode(found, type=NodeCard)

    async def next(self, seconds: float = GENEROUS) -> Heartbeat:
        """The next heartbeat that comes."""
        count = len(self.beats)
        await until(lambda: len(self.beats) > count, seconds)
        return self.beats[-1]

    async def ask(self, name: CallName, params: Params, answer: type[Any]) -> Any:
        return await ask(self.client, "n1", name, params, answer, GENEROUS)


@contextlib.asynccontextmanager
async def hearing(place: Place, role: MemberRole = MemberRole.GATEWAY) -> AsyncIterator[Hearing]:
    client = await bus.connect(place.member, role)
    found = Hearing(client)
    try:
        await client.subscribe(names.HEARTBEATS, cb=found.heard)
        await found.next()
        yield found
    finally:
        await client.close()


def door(place: Place, lease: Direct) -> LeaseDoor:
    return LeaseDoor(lease, nodes_context(place.member, MemberRole.GATEWAY))


async def test_a_node_says_what_it_has(shared: Place) -> None:
    async with hearing(shared) as heard:
        await until(heard.card)
        card = await heard.card()
        assert card is not None
        assert (card.node, card.address, card.labels) == ("n1", shared.node.address, {"room": "attic"})
        offered = [(x.model, x.names, x.slots) for x in card.models]
        assert offered == [("a", ("a", "first"), 2), ("held", ("held",), 1)]
        await until(lambda: len(heard.beats) >= 2)
        first, second = heard.beats[:2]
        assert (first.node, first.started) == ("n1", card.started)
        assert (second.number, second.sent > first.sent) == (first.number + 1, True)
        assert second.rooms[0].free > 0


async def test_an_agent_ends_whose_cancellation_was_dropped(shared: Place) -> None:
    """Python 3.11's wait_for, by which nats-py asks, may drop one that comes with an answer."""
    asked = asyncio.Event()

    async def dropping(_: str) -> None:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise BucketNotFoundError

    async def heard(*_: object) -> None:
        """A heartbeat."""

    bus: Any = SimpleNamespace(is_connected=True, publish=heard, key_value=dropping)
    bus.jetstream = lambda: bus
    speaking = asyncio.create_task(Agent(NodeIdentity(node="n2", address="127.0.0.1:1"), shared.lmxd.socket).run(bus))
    await asked.wait()
    speaking.cancel()
    await asyncio.wait([speaking], timeout=GENEROUS)
    assert speaking.cancelled()


async def test_a_card_waits_for_the_brokers_bucket(shared: Place, caplog: pytest.LogCaptureFixture) -> None:
    """In the first second of a fleet there is none: nothing is amiss."""

    async def no_bucket(_: str) -> None:
        raise BucketNotFoundError

    async def heard(*_: object) -> None:
        """A heartbeat."""

    empty: Any = SimpleNamespace(is_connected=True, publish=heard, key_value=no_bucket)
    empty.jetstream = lambda: empty
    agent = Agent(NodeIdentity(node="n2", address="127.0.0.1:1"), shared.lmxd.socket)
    with caplog.at_level(logging.INFO, "lmxd.fleet"):
        speaking = asyncio.create_task(agent.run(empty))
        await until(lambda: "the broker makes it" in caplog.text)
        speaking.cancel()
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_what_happens_is_said_at_once(shared: Place) -> None:
    async with hearing(shared) as heard:

        async def one_came_sooner() -> bool:
            """Sooner than 0.8 s after the one before, which is the least when nothing happens."""
            leased = await heard.ask(CallName.REQUEST, LeaseCall(model="a", wait=60), Direct)
            await until(lambda: heard.beats[-1].running and heard.beats[-1].running[0].vacant == 1)
            await door(shared, leased).release()
            await until(lambda: heard.beats[-1].running[0].vacant == 2)
            pairs = zip(heard.beats, heard.beats[1:], strict=False)
            return any(after.sent - before.sent < 0.75 for before, after in pairs)

        await until(one_came_sooner)


async def test_nats_lists_its_service(shared: Place) -> None:
    async with hearing(shared, MemberRole.OPERATOR) as heard:
        found = json.loads((await heard.client.request(f"$SRV.INFO.{names.SERVICE}", b"", timeout=GENEROUS)).data)
        assert found["metadata"]["node"] == "n1"
        assert {each["subject"] for each in found["endpoints"]} >= {f"{names.calls('n1')}.{x}" for x in CallName}


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("PING", {}),
        ("INFO", {"description": str, "endpoints": list}),
        ("STATS", {"started": str, "endpoints": list}),
    ],
)
async def test_its_replies_are_those_of_nats_services(shared: Place, verb: str, more: dict[str, type]) -> None:
    """NATS' ADR-32: the fields and types that ``nats micro`` reads, asked of all, of its name, and of its id."""
    async with hearing(shared, MemberRole.OPERATOR) as heard:
        ask_it = heard.client.request
        found = json.loads((await ask_it(f"$SRV.{verb}", b"", timeout=10)).data)
        for subject in (f"$SRV.{verb}.{names.SERVICE}", f"$SRV.{verb}.{names.SERVICE}.{found['id']}"):
            again = json.loads((await ask_it(subject, b"", timeout=10)).data)
            assert (again["id"], again["type"]) == (found["id"], found["type"])
    assert found["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
    assert (found["name"], found["metadata"]) == (names.SERVICE, {"node": "n1"})
    assert re.fullmatch(r"[A-Za-z0-9_-]+", found["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", found["version"]), "a version as of semver.org"
    assert {key: type(found[key]) for key in more} == more
    for each in found.get("endpoints", ()):
        assert each["subject"] == f"{names.calls('n1')}.{each['name']}"
        assert isinstance(each["queue_group"], str)
        if verb == "STATS":
            assert {type(each[key]) for key in ("num_requests", "num_errors", "average_processing_time")} == {int}


async def test_it_answers_what_lmxctl_asks(shared: Place) -> None:
    async with hearing(shared) as heard:
        planned: Planned = await heard.ask(CallName.PLAN, PlanParams(model="a"), Planned)
        assert planned.outcome in ("start", "share")
        leased = await heard.ask(CallName.REQUEST, LeaseCall(model="a", wait=60, user="ada"), Direct)
        running: Instances = await heard.ask(CallName.PS, Nothing(), Instances)
        assert [(x.lease, x.user, x.hold) for i in running.instances for x in i.leases] == [
            (leased.lease, "ada", "ttl")
        ]
        await until(lambda: heard.beats[-1].users.get("ada", UserUse()).use > 0)
        assert heard.beats[-1].users["ada"].leases == 1
        assert heard.beats[-1].users["ada"].bytes == sum(x.bytes for i in running.instances for x in i.leases)
        waiting: QueueInfo = await heard.ask(CallName.QUEUE, Nothing(), QueueInfo)
        assert waiting.tickets == []
        await door(shared, leased).release()


async def test_an_error_of_lmxd_s_comes_back_as_it_is(shared: Place) -> None:
    async with hearing(shared) as heard:
        with pytest.raises(LmxdError, match="there is no model 'x'") as caught:
            await heard.ask(CallName.PLAN, PlanParams(model="x"), Planned)
        assert (caught.value.code, bool(caught.value.remedy)) == ("unknown_model", True)
        with pytest.raises(LmxdError, match="node n9 is not there"):
            await ask(heard.client, "n9", CallName.PS, Nothing(), Instances, GENEROUS)


@pytest.mark.parametrize("said", [b"{", b"[]", b'{"model": 7}', b'{"model": "a", "argv": "x"}', b"\xff"])
async def test_parameters_that_cannot_be_meant_are_named(shared: Place, said: bytes) -> None:
    class Raw(Params):
        def model_dump_json(self, **_: Any) -> str:
            return said.decode("latin-1")

    async with hearing(shared) as heard:
        with pytest.raises(LmxdError) as caught:
            await heard.ask(CallName.PLAN, Raw(), Planned)
        assert caught.value.code == "invalid_params"


async def test_a_direct_lease_serves_at_the_door_by_its_key(shared: Place) -> None:
    async with hearing(shared) as heard:
        call = LeaseCall(model="a", wait=60, user="ada", idempotency_key="k1")
        leased: Direct = await heard.ask(CallName.REQUEST, call, Direct)
        again: Direct = await heard.ask(CallName.REQUEST, call, Direct)
        assert again.lease == leased.lease, "asked again, since the answer was lost"
        key = {"Authorization": f"Bearer {leased.api_key}"}
        answer = await shared.node.ask(f"{leased.base_url}/chat/completions", CHAT, by=shared.member, **key)
        assert (answer.status, len(answer.json["choices"])) == (200, 1)
        wrong = await shared.node.ask(f"{leased.base_url}/chat/completions", CHAT, by=shared.member)
        assert wrong.status == 401
        kept = await door(shared, leased).renew()
        assert 20 < kept.expires_in <= 30
        await door(shared, leased).release()
        gone = await shared.node.ask(f"{leased.base_url}/chat/completions", CHAT, by=shared.member, **key)
        assert gone.status == 401
        with pytest.raises(LmxdError) as caught:
            await door(shared, leased).renew()
        assert caught.value.code == "unknown_lease"


async def test_a_lease_of_a_local_user_is_none_of_the_fleet_s(shared: Place) -> None:
    with shared.lmxd.client() as local:
        mine = local.request("a")
        key = {"Authorization": f"Bearer {mine.api_key}"}
        for method in ("POST", "DELETE"):
            answer = await shared.node.ask(f"/lease/{mine.lease}", method=method, by=shared.member, **key)
            assert answer.status == 401
        assert local.renew(mine.lease).lease == mine.lease


async def test_nobody_ends_the_lease_of_another(shared: Place) -> None:
    async with hearing(shared) as heard:
        leased: Direct = await heard.ask(CallName.REQUEST, LeaseCall(model="a", wait=20), Direct)
        other = door(shared, leased.model_copy(update={"api_key": "x"}))
        for call in (other.renew, other.release):
            with pytest.raises(LmxdError, match="HTTP 401"):
                await call()
        await door(shared, leased).release()


async def test_a_direct_lease_is_renewed_while_nats_is_gone(shared: Place) -> None:
    async with hearing(shared) as heard:
        leased: Direct = await heard.ask(CallName.REQUEST, LeaseCall(model="a", wait=20), Direct)
        await asyncio.to_thread(shared.broker.end, signal.SIGKILL)
        assert 20 < (await door(shared, leased).renew()).expires_in <= 30
        await door(shared, leased).release()
        await asyncio.to_thread(shared.broker.__enter__)


async def test_only_an_operator_drains(shared: Place) -> None:
    async with hearing(shared) as heard:
        with pytest.raises(LmxdError):
            await ask(heard.client, "n1", CallName.DRAIN, DrainParams(), Drained, 1)
        assert not (await heard.next()).draining
    async with hearing(shared, MemberRole.OPERATOR) as heard:
        begun: Result = await heard.ask(CallName.DRAIN, DrainParams(), Drained)
        assert isinstance(begun, Drained)
        assert begun.draining
        await until(lambda: heard.beats[-1].draining)
        refused = await shared.node.ask("/v1/chat/completions", CHAT, by=shared.member)
        assert refused.status == 503
        await heard.ask(CallName.DRAIN, DrainParams(end=True), Drained)
        await until(lambda: not heard.beats[-1].draining)


async def test_a_direct_lease_outlives_the_node_s_process(shared: Place) -> None:
    async with hearing(shared) as heard:
        leased: Direct = await heard.ask(CallName.REQUEST, LeaseCall(model="a", wait=60), Direct)
        started = heard.beats[-1].started
        await asyncio.to_thread(shared.node.end, signal.SIGKILL)
        await asyncio.to_thread(shared.node.start)
        await until(lambda: heard.beats[-1].started != started)
        await door(shared, leased).renew()
        key = {"Authorization": f"Bearer {leased.api_key}"}
        answer = await shared.node.ask(f"{leased.base_url}/chat/completions", CHAT, by=shared.member, **key)
        assert answer.status == 200
        await door(shared, leased).release()


async def test_a_node_is_silent_without_lmxd_and_speaks_again_with_it(shared: Place) -> None:
    async with hearing(shared) as heard:
        await asyncio.to_thread(shared.lmxd.stop, signal.SIGKILL)
        last = heard.beats[-1].number
        await asyncio.to_thread(shared.lmxd.start)
        await until(lambda: heard.beats[-1].number > last + 1)
        assert (await heard.ask(CallName.PLAN, PlanParams(model="a"), Planned)).model == "a"


async def test_the_door_is_open_while_nats_is_gone_and_heartbeats_go_on_after(shared: Place) -> None:
    await asyncio.to_thread(shared.broker.end, signal.SIGKILL)
    answer = await shared.node.ask("/v1/chat/completions", CHAT, by=shared.member)
    assert answer.status == 200
    assert shared.lmxd.json("status")
    await asyncio.to_thread(shared.broker.__enter__)
    async with hearing(shared) as heard:
        await until(heard.card)
        assert (await heard.ask(CallName.PLAN, PlanParams(model="a"), Planned)).model == "a"


async def test_a_node_that_leaves_takes_its_card_along(shared: Place) -> None:
    async with hearing(shared) as heard:
        await until(heard.card)
        assert await asyncio.to_thread(shared.node.end) == 0
        assert await heard.card() is None
        await asyncio.to_thread(shared.node.start)
        await until(heard.card)


async def test_a_node_that_is_told_to_end_answers_what_it_was_asked(shared: Place) -> None:
    async with hearing(shared) as heard:
        body = CHAT | {"model": "held", "max_tokens": 64, "stream": True}
        asking = asyncio.create_task(shared.node.ask("/v1/chat/completions", body, by=shared.member))
        await until(lambda: any(x.model == "held" and x.vacant < x.slots for x in heard.beats[-1].running))
        ending = asyncio.create_task(asyncio.to_thread(shared.node.end))

        async def has_left() -> bool:
            return await heard.card() is None

        await until(has_left)  # nothing more is asked of it
        (shared.lmxd.directory / "gate").touch()
        answer = await asking
        assert (answer.status, answer.text.count('"content"')) == (200, 64)
        assert await ending == 0
        await asyncio.to_thread(shared.node.start)
        await until(heard.card)


def test_a_box_that_is_in_no_fleet_is_told_what_to_do(shared: Place, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lmxd", "--socket", str(shared.lmxd.socket), "fleet", "--home", str(tmp_path)]
    done = subprocess.run([*command, "node"], capture_output=True, text=True, timeout=GENEROUS)
    assert done.returncode == 78
    assert "this box is in no fleet (lmxd fleet init begins one" in done.stderr
