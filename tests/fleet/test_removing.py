"""A member that was removed: the doors of nodes let it in no more, though its certificate counts for months."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from fleet_boxes import lmxd_with, made
from fleet_node import Node
from fleet_process import FleetBox

from lmxd.errors import LmxdError
from lmxd.fleet.authority.roll import Enrolled, Roll
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.tls import client_context

GATEWAY = MemberRole.GATEWAY


@pytest.fixture
def place(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The box of a fleet's authority with a node, and a box that has joined as gateway."""
    first, other = FleetBox(tmp_path / "first"), FleetBox(tmp_path / "other")
    first.init("n1")
    with ExitStack() as held:
        held.enter_context(first.broker())
        lmxd = held.enter_context(lmxd_with(made(tmp_path / "1"), {"m": {"play": {"token_seconds": 0.05}}}))
        node = held.enter_context(Node(lmxd, first.home))
        other.run("join", first.run("token", "--role", "gateway"), "--node", "g2")
        yield SimpleNamespace(first=first, other=other, node=node)


async def test_a_removed_gateway_is_let_in_no_more(place: SimpleNamespace) -> None:
    """A stream of its own is ended; a restart of the node does not let it in; another box gets the name, and is."""
    first, other, node = place.first, place.other, place.node
    assert (await node.ask("/v1/models", by=other.home)).status == 200
    begun = asyncio.Event()
    stream = asyncio.create_task(_endless(node, other, begun))
    await asyncio.wait_for(begun.wait(), 20)

    await asyncio.to_thread(first.run, "remove", "gateway", "g2")
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(stream, 20)
    await _refused(node, other)

    await asyncio.to_thread(node.end)
    await asyncio.to_thread(node.start)
    await _refused(node, other)
    assert (await node.ask("/v1/models", by=first.home)).status == 200

    word = await asyncio.to_thread(first.run, "token", "--role", "gateway")
    await asyncio.to_thread(other.run, "join", word, "--node", "g2")
    assert (await node.ask("/v1/models", by=other.home)).status == 200


async def _refused(node: Node, box: FleetBox) -> None:
    answer = await node.ask("/v1/models", by=box.home)
    assert (answer.status, answer.json["error"]["code"]) == (403, "not_permitted")
    assert "was removed" in answer.json["error"]["message"]


async def _endless(node: Node, box: FleetBox, begun: asyncio.Event) -> None:
    """A stream of that box's gateway for longer than the test takes."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 100_000}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context(box.home, GATEWAY))) as session,
        session.post(
            f"https://{node.address}/v1/chat/completions",
            json=body,
            server_hostname=node.home.member(MemberRole.NODE).host,
        ) as answer,
    ):
        async for _ in answer.content:
            begun.set()


def test_a_former_member_is_told_until_its_certificate_ends(tmp_path: Path) -> None:
    roll, member = Roll(tmp_path), Member(fleet="home", role=GATEWAY, name="g1")
    with pytest.raises(LmxdError, match="no gateway g1"):
        roll.forget(member)
    for key in ("a" * 64, "b" * 64):
        roll.enroll(Enrolled(fleet="home", role=GATEWAY, name="g1", key=key, expires=100.0))
        roll.forget(member)
    assert (roll.all(), roll.removed(99.0)) == ([], ["a" * 64, "b" * 64])
    assert (roll.removed(101.0), list(tmp_path.iterdir())) == ([], [])
