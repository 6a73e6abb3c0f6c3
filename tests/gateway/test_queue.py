"""The gateway's line is lmxd's: who waits there is in the queue, with its own place and name, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model
from waiting import turns

from gateway.front import Front, opened
from gateway.test_serving import ONE, house
from lmxd.config import keys
from lmxd.rpc.client import AsyncLease

ASKED = b'{"model": "a", "messages": []}'


class Crowd:
    """Clients with a key each; asked one after the other, so that each has its time."""

    def __init__(self, front: Front, **by_client: str) -> None:
        self._front = front
        path = front.config.keys_file
        assert path is not None
        self._keys = {name: keys.add(path, name, admin=False) for name in by_client}
        self._models = by_client
        self.asked: dict[str, asyncio.Task[Any]] = {}

    async def ask(self) -> None:
        for name, wanted in self._models.items():
            before = len(self._front.house.state.tickets)
            body = {"model": wanted, "messages": []}
            headers = {"Authorization": f"Bearer {self._keys[name]}"}
            self.asked[name] = asyncio.create_task(self._front.ask("/v1/chat/completions", body, **headers))
            await self._front.until(partial(self._more_than, before))

    def _more_than(self, before: int) -> bool:
        return len(self._front.house.state.tickets) > before

    async def statuses(self) -> list[int]:
        return [(await task).status for task in self.asked.values()]


@asynccontextmanager
async def full(here: House, leases: int) -> AsyncIterator[list[AsyncLease]]:
    """All slots of ``a`` are somebody's."""
    async with here.open(), AsyncExitStack() as stack:
        holding = await stack.enter_async_context(here.client())
        yield [await holding.request("a") for _ in range(leases)]


async def test_eight_clients_on_each_of_two_models_with_default_settings(tmp_path: Path) -> None:
    """Of which only one fits at a time: all wait in the queue, by name and in order, and all are answered."""
    here = house(tmp_path)
    by_client = {f"{wanted}{number}": wanted for wanted in "ab" for number in range(8)}
    async with full(here, 1) as leases:
        front = Front(here)
        crowd = Crowd(front, **by_client)
        async with front.open(), here.client() as lmxd:
            await crowd.ask()
            tickets = (await lmxd.queue()).tickets
            assert [(t.user, t.model, t.position) for t in tickets] == [
                (name, wanted, place) for place, (name, wanted) in enumerate(by_client.items(), start=1)
            ]
            waited = [t.waited for t in tickets]
            assert waited == sorted(waited, reverse=True)
            assert len(set(waited)) == len(waited), "each has its own time of arrival"
            await leases[0].release()
            assert await crowd.statuses() == [200] * 16
            await front.until(lambda: not here.state.leases and not here.state.tickets)


@pytest.mark.parametrize("slots", [1, 4])
async def test_a_model_is_had_in_order_of_arrival_at_any_number_of_slots(tmp_path: Path, slots: int) -> None:
    here = house(tmp_path, a={**ONE, "slots": slots})
    granted: list[str] = []

    def seen(method: str, params: dict[str, Any]) -> None:
        if params.get("event") == "GrantLease":
            granted.append(params["ticket"])

    async with full(here, slots) as leases:
        front = Front(here)
        crowd = Crowd(front, **{f"client{number}": "a" for number in range(10)})
        async with front.open(), here.client(on_notification=seen) as watching:
            await watching.watch()
            await crowd.ask()
            order = [t.ticket for t in (await watching.queue()).tickets]
            assert [here.state.tickets[t].owner.user for t in order] == list(crowd.asked)
            for lease in leases:
                await lease.release()
            assert await crowd.statuses() == [200] * 10
            await front.until(lambda: len(granted) == 10)
            assert granted == order


async def test_nobody_loses_a_place_while_it_is_not_known_how_many_slots_there_are(tmp_path: Path) -> None:
    """The fifth for a model of four slots that is loading stands before who comes after it."""
    model(tmp_path, "a", load_seconds=1.0)
    here = house(tmp_path, a={**ONE, "slots": 4}, b=ONE)
    async with here.open():
        front = Front(here)
        crowd = Crowd(front, **{f"client{number}": "a" for number in range(5)}, other="b")
        async with front.open(), here.client() as lmxd:
            await crowd.ask()
            found = [(t.user, t.instance) for t in (await lmxd.queue()).tickets]
            assert found[:4] == [(f"client{number}", "a#1") for number in range(4)]
            assert found[4:] == [("client4", None), ("other", None)]
            assert await crowd.statuses() == [200] * 6


async def test_who_comes_without_a_key_has_no_name(tmp_path: Path) -> None:
    here = house(tmp_path)
    async with full(here, 1) as leases, Front(here, anonymous=True).open() as front:
        asked = asyncio.create_task(front.ask("/v1/chat/completions", ASKED, Authorization=""))
        await front.until(lambda: len(here.state.queue) == 1)
        async with here.client() as lmxd:
            [ticket] = (await lmxd.queue()).tickets
        assert ticket.user is None
        await leases[0].release()
        assert (await asked).status == 200


async def test_a_request_that_is_taken_out_of_the_queue_may_be_made_again(tmp_path: Path) -> None:
    here = house(tmp_path)
    async with full(here, 1), Front(here).open() as front, here.client() as lmxd:
        asked = asyncio.create_task(front.chat("a"))
        await front.until(lambda: len(here.state.queue) == 1)
        [ticket] = (await lmxd.queue()).tickets
        await lmxd.cancel(ticket=ticket.ticket or "")
        answer = await asked
        assert (answer.status, json.loads(answer.text)["error"]["code"]) == (503, "cancelled")
        assert answer.headers["Retry-After"]


async def test_hundreds_wait_over_the_gateways_one_connection(tmp_path: Path) -> None:
    """And other calls of its connection are answered meanwhile."""
    here = house(tmp_path, a={**ONE, "slots": 1})
    async with full(here, 1) as leases, Front(here).open() as front:
        asked = [asyncio.create_task(front.chat("a")) for _ in range(300)]
        await front.until(lambda: len(here.state.queue) == 300)
        state = json.loads((await front.ask("/lmxd/state", method="GET")).text)
        assert len(state["queue"]) == 300
        await leases[0].release()
        assert {(await task).status for task in asked} == {200}


async def test_at_whatever_moment_a_client_goes_it_leaves_no_ticket_and_no_lease(tmp_path: Path) -> None:
    """Before lmxd knows of its request, while it waits, when it is served, and as its lease is given back."""
    async with opened(house(tmp_path)) as front:
        assert (await front.chat("a")).status == 200
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
        whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(ASKED) + ASKED
        for moment in range(0, 120, 2):
            _, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
            writer.write(whole)
            await turns(moment)
            writer.transport.abort()
        await front.until(lambda: not front.house.state.tickets and not front.house.state.leases)
        await front.until(lambda: not front.leases.client.granting)
        assert not front.leases.client.held
        assert not front.leases.renewed
        assert (await front.chat("a")).status == 200, "its slot is free"


async def test_a_client_that_goes_while_its_model_loads_leaves_nothing(tmp_path: Path) -> None:
    model(tmp_path, "a", load_seconds=30)
    async with opened(house(tmp_path)) as front:
        waiting = asyncio.create_task(front.chat("a"))
        await front.until(lambda: "a#1" in front.house.phases())
        waiting.cancel()
        await front.until(lambda: not front.house.state.tickets)
        assert (await front.chat("b")).status == 200, "what loads for nobody makes way"


async def test_a_lease_in_use_is_renewed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engine may not show that it is busy, and one that does nothing is ended."""
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 40) as answer:
        await answer.content.readline()
        [lease] = front.leases.renewed
        renewed: list[str] = []

        async def renew(name: str) -> None:
            renewed.append(name)

        monkeypatch.setattr(front.leases.client, "renew", renew)
        begun = time.monotonic()
        for later in (1, 31, 32, 62):
            front.leases.renew(begun + later)
        await answer.read()
        assert renewed == [lease, lease]


async def test_models_are_asked_for_once_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of ollama's requests needs to know a model's usual context."""
    here = House(tmp_path, FakeNvml(card()), models={"a": ONE})
    async with opened(here) as front:
        asked, models = 0, front.leases.client.models

        async def counted() -> Any:
            nonlocal asked
            asked += 1
            return await models()

        monkeypatch.setattr(front.leases.client, "models", counted)
        body = {"model": "a", "prompt": "x", "stream": False, "options": {"num_ctx": 512}}
        answers = await asyncio.gather(*(front.ask("/api/generate", body) for _ in range(5)))
        assert [x.status for x in answers] == [200] * 5
        assert asked == 1
