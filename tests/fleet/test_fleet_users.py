"""Users of a fleet by real processes: their weights and limits hold over all nodes together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from fleet_boxes import Boxes, boxes
from fleet_load import FleetLoad
from waiting import until

from lmxd.errors import LmxdError
from lmxd.fleet.client import FleetClient
from lmxd.fleet.members import MemberRole

GIB = 2**30
USERS = {"ada": {"max_leases": 2}, "heavy": {"weight": 3}, "light": {"weight": 1}}
PLAY: dict[str, Any] = {"play": {"token_seconds": 0.05}}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """``m`` is at two nodes, ``wide`` with four slots at the first, ``narrow`` with one such slot at the second."""
    slow: dict[str, Any] = {"play": {"token_seconds": 0.3}}
    models: dict[str, dict[str, dict[str, Any]]] = {
        "n1": {"m": PLAY, "wide": slow | {"slots": 4, "estimated_memory_gb": 0.4}},
        "n2": {"m": PLAY, "narrow": slow | {"slots": 1, "estimated_memory_gb": 0.1}},
    }
    rules = {"queue_depth": 100, "fairness": 600}
    with boxes(tmp_path_factory.mktemp("fleet"), models, gib=0.7, users=USERS, admission_control=rules) as found:
        yield found


def had(fleet: Boxes, user: str) -> Counter[str]:
    """What a user has and used, over all nodes, as they say themselves."""
    found: Counter[str] = Counter()
    for lmxd in fleet.lmxds.values():
        with lmxd.client() as client:
            for each in client.status().users:
                if each.user == user:
                    found.update({"leases": each.leases, "use": int(each.use), "bytes": each.bytes})
    return found


@contextmanager
def stream(fleet: Boxes, key: str, model: str = "m", tokens: int = 100_000) -> Iterator[httpx.Response]:
    """A long answer is being written."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": tokens}
    with fleet.gateway.client(key) as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        yield answer


def test_a_limit_holds_over_all_nodes_and_is_refused_as_by_one(fleet: Boxes) -> None:
    key = fleet.gateway.key_of("ada")
    with stream(fleet, key) as one, stream(fleet, key) as two:
        assert (one.status_code, two.status_code) == (200, 200)
        with fleet.gateway.client(key) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            third = client.post("/v1/chat/completions", json=body, headers={"Prefer": "wait=0"})
            assert (third.status_code, third.json()["error"]["code"]) == (429, "over_quota")
            assert "key ada of the fleet has 2 of at most 2 leases" in third.json()["error"]["message"]
            assert int(third.headers["Retry-After"]) >= 1
        assert fleet.chat().status_code == 200, "others have their own"
    with stream(fleet, key, tokens=1) as again:
        assert again.status_code == 200, "at once, however late the heartbeats are"


async def test_who_floods_never_has_more_than_its_limit(fleet: Boxes) -> None:
    load = FleetLoad(fleet.gateway.url, fleet.gateway.key_of("ada"), clients=6, tokens=4)
    seen: list[int] = []
    async with load.going_on():
        while len([each for each in load.outcomes if each.whole]) < 20:
            seen.append((await asyncio.to_thread(had, fleet, "ada"))["leases"])
    assert 2 in seen
    assert sum(each > 2 for each in seen) < len(seen) / 3, "a lease is kept for a moment behind its request"
    assert {each.status for each in load.outcomes} == {200}, "the others waited"


async def test_direct_leases_and_those_of_a_gateway_count_together(fleet: Boxes) -> None:
    home = fleet.broker.box("o1", [MemberRole.OPERATOR], users=USERS)
    key = fleet.gateway.key_of("ada")
    async with AsyncExitStack() as stack:
        program = await stack.enter_async_context(FleetClient(home))
        await stack.enter_async_context(program.request("m", user="ada", wait=30))
        with ExitStack() as streams:
            assert streams.enter_context(stream(fleet, key)).status_code == 200
            await until(lambda: refusal(program, "ada"))
            found = await refusal(program, "ada")
            assert "key ada of the fleet has 2 of at most 2 leases" in found


async def refusal(program: FleetClient, user: str) -> str:
    """Why a request is refused that does not wait; empty if it is served."""
    try:
        async with program.request("m", user=user):
            return ""
    except LmxdError as error:
        assert error.code == "over_quota"
        return error.message


async def test_use_at_one_node_counts_at_the_other_by_weight(fleet: Boxes) -> None:
    """``light`` has the second node for itself, which is a fifth of all: only a little of the first one is left to it.

    Of five slots, 3.75 are the part of the one with weight 3. If each node counted by itself, it would be 3, and both
    together 1.5 : 1. A node hears of use elsewhere with the next request, so that it takes a while until it is 3 : 1.
    """
    url, heavy, light = fleet.gateway.url, fleet.gateway.key_of("heavy"), fleet.gateway.key_of("light")

    async def slot_seconds() -> tuple[float, float]:
        both = await asyncio.gather(*(asyncio.to_thread(had, fleet, user) for user in ("heavy", "light")))
        most, least = (each["use"] / (0.1 * GIB) for each in both)
        return most, least

    async with AsyncExitStack() as stack:

        async def flood(key: str, model: str, clients: int) -> None:
            load = FleetLoad(url, key, model=model, clients=clients, tokens=3)
            await stack.enter_async_context(load.going_on())

        await flood(heavy, "wide", 8)
        await flood(light, "narrow", 2)
        while (await slot_seconds())[0] < 10:
            pass
        await flood(light, "wide", 3)
        while sum(await slot_seconds()) < 60:
            pass
        most, least = await slot_seconds()
    assert 2.0 < most / least < 4.2
