"""One user cannot stall another: connections, calls and bytes are budgeted by user, and calls begin by turns."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from lmxd.errors import LmxdError
from lmxd.rpc import budgets, framing, server
from lmxd.rpc.budgets import Budgets
from lmxd.rpc.messages import Hello, Params, Result
from lmxd.rpc.methods import METHODS, described
from lmxd.rpc.peer import Peer

CROWD, ANNA, CHIEF = 1, 2, 3


class Town:
    """A service whose clients say who they are by the order in which they connect, and which notes who is served.

    ``finishes``: whether it answers at all.
    """

    def __init__(self, *users: int, finishes: bool = True) -> None:
        self._users = list(users)
        self._finishes = finishes
        self.begun: list[int] = []
        self.came: dict[int, int] = {}
        """By user: how many calls had begun when its last client came."""
        self.busy: Counter[int] = Counter()
        self.most: Counter[int] = Counter()

    async def identify(self, peer: Peer) -> Peer:
        uid = self._users.pop(0)
        self.came[uid] = len(self.begun)
        return replace(peer, uid=uid)

    def is_privileged(self, peer: Peer) -> bool:
        return peer.uid == CHIEF

    async def call(self, connection: server.Connection, call: framing.Call, params: Params) -> Result:
        uid = connection.peer.uid
        self.begun.append(uid)
        self.busy[uid] += 1
        self.most[uid] = max(self.most[uid], self.busy[uid])
        if not self._finishes:
            await asyncio.get_running_loop().create_future()
        self.busy[uid] -= 1
        return Hello(protocol="1.0", server="town", capabilities=[])

    def keeps(self, connection: server.Connection) -> bool:
        return False

    def left(self, connection: server.Connection) -> None:
        pass


def calls(count: int, method: str = "hello") -> bytes:
    return b"".join(
        json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}).encode() + b"\n" for id in range(count)
    )


@asynccontextmanager
async def listening(path: Path, town: Town) -> AsyncIterator[server.Listener]:
    listener = server.Listener(town)
    async with await asyncio.get_running_loop().create_unix_server(listener, path / "s"):
        yield listener
        await listener.close(grace=0)


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(path / "s")


async def come(path: Path, listener: server.Listener, count: int) -> list[Any]:
    """So many clients, all of which are known to the server, in this order."""
    found = []
    for _ in range(count):
        before = len(listener.connections)
        found.append(await connect(path))
        await until(lambda before=before: len(listener.connections) > before)  # type: ignore[misc]
    return found


async def test_whoever_comes_to_a_crowd_is_served_next(tmp_path: Path) -> None:
    """64 connections with 32 calls each: a newcomer's call begins when a few of theirs have, not 2,048."""
    town = Town(*[CROWD] * 64, ANNA, CHIEF)
    async with listening(tmp_path, town) as listener:
        clients = await come(tmp_path, listener, 64)
        for _, writer in clients:
            writer.write(calls(32))
        for user in (ANNA, CHIEF):
            reader, writer = await connect(tmp_path)
            clients.append((reader, writer))
            writer.write(calls(1))
            assert json.loads(await asyncio.wait_for(reader.readline(), 20))["result"]["server"] == "town"
            assert user in town.begun
            assert town.begun.index(user) - town.came[user] <= 10
        await until(lambda: len(town.begun) == 64 * 32 + 2)


async def test_administrators_are_served_before_a_crowd_of_users(tmp_path: Path) -> None:
    """Even if the crowd is of many users."""
    crowd = range(1000, 1200)
    town = Town(*crowd, CHIEF)
    async with listening(tmp_path, town) as listener:
        clients = await come(tmp_path, listener, len(crowd) + 1)
        for _, writer in clients:
            writer.write(calls(20))
        await until(lambda: len(town.begun) == len(clients) * 20)
        last = max(number for number, uid in enumerate(town.begun) if uid == CHIEF)
        assert last < len(town.begun) / 2, "an administrator's twentieth call begins before most others"
        assert Counter(town.begun) == dict.fromkeys((*crowd, CHIEF), 20), "and nobody is left out"


@pytest.mark.parametrize(
    ("method", "most"),
    [("hello", budgets.MAX_IN_FLIGHT_OF_USER), ("request", budgets.MAX_ON_THEIR_WAY_OF_USER)],
)
async def test_a_users_connections_share_its_calls_in_flight(tmp_path: Path, method: str, most: int) -> None:
    town = Town(*[CROWD] * 5, ANNA, finishes=False)
    async with listening(tmp_path, town) as listener:
        line = calls(200).replace(b'"hello", "params": {}', f'"{method}", "params": {{"model": "a"}}'.encode())
        clients = await come(tmp_path, listener, 5)
        for _, writer in clients:
            writer.write(line if method == "request" else calls(200))
        _, anna = await connect(tmp_path)
        anna.write(calls(1))
        await until(lambda: ANNA in town.begun and town.busy[CROWD] == most)
        anna.write(calls(1))
        await until(lambda: town.begun.count(ANNA) == 2)  # so has everybody whose turn it was
        assert (town.most[CROWD], len(clients)) == (most, 5)


async def test_calls_that_are_never_finished_take_a_bounded_memory(tmp_path: Path) -> None:
    """And whoever exceeds it is told so, and closed."""
    piece = b"x" * (framing.MAX_FRAME - 100)
    fit = budgets.MAX_BUFFERED_OF_USER // len(piece)
    town = Town(*[CROWD] * (fit + 40), ANNA)
    async with listening(tmp_path, town) as listener:
        clients = await come(tmp_path, listener, fit + 40)
        for _, each in clients:
            each.write(piece)
        await until(lambda: len(listener.connections) == fit)
        anna, writer = await connect(tmp_path)
        writer.write(calls(1))
        assert json.loads(await anna.readline())["result"], "whoever else comes is served"
        refused = [json.loads(line)["error"] for reader, _ in clients[fit:] if (line := await reader.readline())]
        assert {error["data"]["code"] for error in refused} == {"too_many"}
        assert len(refused) == 40
        for _, each in clients:
            each.close()
        await until(lambda: len(listener.connections) == 1)


async def test_a_frame_costs_what_was_sent_of_it_and_gives_it_back() -> None:
    framer = framing.Framer()
    framer.feed(b"x" * 10_000)
    assert (framer.size, framer.take()) == (10_000, None)
    framer.feed(b"\n" * 5000)
    line = framer.take()
    assert line is not None
    assert (len(line), framer.take(), framer.size) == (10_000, None, 0)


async def test_who_sends_nonsense_only_is_closed(tmp_path: Path) -> None:
    town = Town(CROWD, ANNA)
    async with listening(tmp_path, town) as listener:
        [(reader, writer)] = await come(tmp_path, listener, 1)
        writer.write(b"{\n" * (2 * server.MAX_MALFORMED))
        said = [json.loads(line) for line in (await asyncio.wait_for(reader.read(), 20)).splitlines()]
        assert len(said) == server.MAX_MALFORMED + 1
        assert "were no calls" in said[-1]["error"]["message"]
        assert {x["error"]["data"]["code"] for x in said} == {"invalid_request"}


async def test_calls_that_wait_for_their_turn_are_answered_though_the_client_says_no_more(tmp_path: Path) -> None:
    town = Town(CROWD)
    async with listening(tmp_path, town):
        reader, writer = await connect(tmp_path)
        writer.write(calls(500))
        writer.write_eof()
        said = (await asyncio.wait_for(reader.read(), 20)).splitlines()
        assert [json.loads(line)["id"] for line in said] == list(range(500))


class Client:
    """A connection of which only the unread bytes matter."""

    def __init__(self, unread: int = 0) -> None:
        self.unread = unread

    def take_turn(self) -> None:
        pass


def fill(table: Budgets, uid: int, *, privileged: bool = False) -> list[tuple[Client, budgets.Budget]]:
    """As many connections of a user as it may have."""
    found: list[tuple[Client, budgets.Budget]] = []
    while True:
        client = Client()
        try:
            found.append((client, table.admit(client, uid, privileged=privileged)))
        except LmxdError as refused:
            assert refused.code == "too_many"
            return found


def test_however_many_take_all_they_may_there_is_room_for_the_next_and_for_administrators() -> None:
    table = Budgets()
    counts = [len(fill(table, uid)) for uid in range(100, 130)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1
    newcomer = fill(table, ANNA)
    assert newcomer, "users that come late find some, too"
    assert len(fill(table, CHIEF, privileged=True)) >= budgets.RESERVED_CONNECTIONS / 2


def test_connections_that_end_are_free_again() -> None:
    table = Budgets()
    first = fill(table, ANNA)
    for client, budget in first:
        table.forget(client, budget)
    assert len(fill(table, ANNA)) == len(first)


def test_what_a_user_leaves_unread_counts_over_all_its_connections() -> None:
    table = Budgets()
    half = budgets.MAX_UNREAD_OF_USER // 2
    one, other = Client(), Client()
    budget = table.admit(one, ANNA, privileged=False)
    assert table.admit(other, ANNA, privileged=False) is budget
    budget.wrote(half)
    budget.wrote(half + 1)
    assert not budget.unread_too_much(), "it has read it all"
    one.unread, other.unread = half, half + 1
    budget.wrote(budgets.MAX_UNREAD_OF_USER + 1)
    assert budget.unread_too_much()
    budget.wait(one)
    assert not budget.has_turn
    other.unread = 0
    assert budget.has_turn


def longest(schema: dict[str, Any], defs: dict[str, Any]) -> Any:
    """The value that takes the most bytes of those that a parameter may have."""
    if "$ref" in schema:
        return longest(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return max((longest(each, defs) for each in schema["anyOf"]), key=lambda x: len(json.dumps(x)))
    if "enum" in schema or "const" in schema:
        return max(schema.get("enum", [schema.get("const")]), key=len)
    match schema["type"]:
        case "string" if "pattern" in schema:
            return "x" * 64
        case "string":
            return "\U0001f600" * schema.get("maxLength", 256)
        case "integer" | "number":
            return 10**20
    return False


@pytest.mark.parametrize("method", METHODS)
def test_no_call_is_as_long_as_half_a_frame(method: str) -> None:
    """Each character of a name may take 12 bytes, as an escaped pair of surrogates."""
    schema = json.loads(described().json)["methods"][f"lmxd.{method}"]["params"]
    params = {name: longest(each, schema.get("$defs", {})) for name, each in schema.get("properties", {}).items()}
    frame = framing.encode({"id": "x" * 100, "method": f"lmxd.{method}", "params": params})
    assert len(frame) < framing.MAX_FRAME / 2
