"""Requests to the door of a node: over kept connections, to the node that is meant, and not to one that is frozen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from fleet_home import box
from waiting import GENEROUS

from lmxd.fleet import tls
from lmxd.fleet.authority.certificates import Authority
from lmxd.fleet.finding.errors import Away
from lmxd.fleet.gateway.doors import Doors
from lmxd.fleet.gateway.refusals import refusal
from lmxd.fleet.members import MemberRole
from lmxd.fleet.reports import NodeCard
from lmxd.gateway.http.upstream_call import UpstreamCall

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = UpstreamCall(method="GET", path="/x", headers={})


class PlayedDoor:
    """A door that gives each request the same answer; without one it is frozen. ``closes``: after each answer."""

    def __init__(self, answer: bytes | None, *, closes: bool = False) -> None:
        self._answer, self._closes = answer, closes
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if self._answer is not None:
                    writer.write(self._answer)
                if self._closes:
                    break
        writer.close()


@asynccontextmanager
async def doors(directory: Path, door: PlayedDoor, *, name: str = "n1") -> AsyncIterator[tuple[Doors, NodeCard]]:
    """The doors of a fleet as a gateway has them, and the card of a node ``n1``, where ``name`` listens."""
    authority = Authority.new("home")
    node = box(authority, directory / "node", name, [MemberRole.NODE])
    gateway = box(authority, directory / "gateway", "g1", [MemberRole.GATEWAY])
    context = tls.server_context(node, MemberRole.NODE)
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    card = NodeCard(node="n1", address=f"127.0.0.1:{port}", version="1", started="s")
    try:
        yield Doors(tls.client_context(gateway, MemberRole.GATEWAY), "home", lambda *_: None), card
    finally:
        server.close()


async def asked(there: Doors, card: NodeCard) -> bytes:
    exchange, head = await there.ask(card, GET, "X-Word: hello")
    whole = bytearray()
    assert head.status == 200
    assert await exchange.body(whole.extend)
    exchange.close()
    return bytes(whole)


async def test_one_connection_serves_one_request_after_another(tmp_path: Path) -> None:
    door = PlayedDoor(OK)
    async with doors(tmp_path, door) as (there, card):
        assert [await asked(there, card) for _ in range(3)] == [b"ok"] * 3
        assert door.connections == 1
        assert all(b"\r\nX-Word: hello\r\n" in request for request in door.requests)
        there.forget("n1")
        assert await asked(there, card) == b"ok"
        assert door.connections == 2


async def test_a_connection_that_the_door_closed_is_opened_anew(tmp_path: Path) -> None:
    door = PlayedDoor(OK, closes=True)
    async with doors(tmp_path, door) as (there, card):
        assert [await asked(there, card) for _ in range(3)] == [b"ok"] * 3
        assert len(door.requests) == 3


async def test_another_node_is_not_taken_for_the_one_that_is_meant(tmp_path: Path) -> None:
    door = PlayedDoor(OK)
    async with doors(tmp_path, door, name="n2") as (there, card):
        with pytest.raises(Away, match=r"node n1 does not answer: .*n1\.node\.home"):
            await there.ask(card, GET)
    assert door.requests == []


async def test_a_frozen_node_breaks_off_by_itself(tmp_path: Path) -> None:
    door = PlayedDoor(None)
    async with doors(tmp_path, door) as (there, card):
        with pytest.raises(Away, match="it is silent"):
            await there.ask(card, GET)
    assert [request.split()[1] for request in door.requests] == [b"/x", b"/fleet/alive"]


async def test_a_door_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    async with doors(tmp_path, PlayedDoor(OK)) as (there, card):
        pass
    with pytest.raises(Away, match="node n1 does not answer: Connect"):
        await there.ask(card, GET)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:-1", "[::1]:70000", "", "n1", f"n1:{'9' * 200}"])
async def test_an_address_that_is_none_is_that_of_no_node(tmp_path: Path, address: str) -> None:
    """Anything may stand on a card, and there are others to ask."""
    async with doors(tmp_path, PlayedDoor(OK)) as (there, card):
        with pytest.raises(Away, match="node n1 does not answer: give HOST:PORT"):
            await there.ask(msgspec.structs.replace(card, address=address), GET)


async def test_of_a_crowd_few_connect_at_a_time(tmp_path: Path) -> None:
    """And the others take the connections of those that have their answer."""
    door = PlayedDoor(OK)
    async with doors(tmp_path, door) as (there, card):
        assert await asyncio.gather(*(asked(there, card) for _ in range(200))) == [b"ok"] * 200
    assert door.connections < 100


async def test_a_crowd_waits_for_a_dead_node_but_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmxd.fleet.gateway.doors.CONNECT", 0.3)
    async with doors(tmp_path, PlayedDoor(OK)) as (there, card):
        pass
    came = []

    async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(1))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(frozen, "127.0.0.1", int(card.address.rpartition(":")[2]))
    ends = await asyncio.gather(*(there.ask(card, GET) for _ in range(40)), return_exceptions=True)
    server.close()
    assert {str(end) for end in ends} == {"node n1 does not answer: no connection in time (ask again)"}
    assert 0 < len(came) <= 8


@pytest.mark.parametrize(
    "answer", [b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
)
async def test_what_is_no_http_comes_from_no_node(tmp_path: Path, answer: bytes) -> None:
    async with doors(tmp_path, PlayedDoor(answer)) as (there, card):
        with pytest.raises(Away, match=r"no HTTP/1\.1"):
            await there.ask(card, GET)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"x" * 2_000_000, "longer than", id="it fills the memory"),
        pytest.param(b"x", "did not end", id="it stops half-way"),
    ],
)
async def test_an_error_without_end_comes_from_no_node(tmp_path: Path, body: bytes, why: str) -> None:
    """The node gives signs of life: nothing else would end it."""
    answer = b"HTTP/1.1 503 Full\r\nContent-Length: 2000000\r\n\r\n" + body
    async with doors(tmp_path, PlayedDoor(answer)) as (there, card):
        exchange, head = await there.ask(card, GET)
        with pytest.raises(Away, match=why):
            await refusal("n1", exchange, head, GENEROUS if len(body) > 1 else 0.1)
        assert exchange.is_over
