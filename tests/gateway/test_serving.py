"""Requests over leases: started on demand, queued, relayed, given back; and never cut."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model
from waiting import until

from gateway.front import Front, opened, read_until

ONE = {"estimated_memory_gb": 12}
"""Of a card of 24 GiB, two do not fit."""


def house(tmp_path: Path, **models: Any) -> House:
    return House(tmp_path, FakeNvml(card()), models=models or {"a": ONE, "b": ONE})


async def test_a_model_is_started_on_demand_and_the_next_request_has_the_lease_of_the_last(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        first, second = await front.chat("a"), await front.chat("a")
        assert (first.status, second.status) == (200, 200)
        assert json.loads(first.text)["choices"] == json.loads(second.text)["choices"]
        assert list(front.house.phases()) == ["a#1"]
        assert front.house.state.counts["asked"] == 1
        await front.until(lambda: not front.house.state.leases)
        assert (await front.chat("a")).status == 200
        assert front.house.state.counts["asked"] == 2, "it is kept for a moment only"


async def test_the_body_goes_to_the_instance_as_it_came(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        body = b'{"model": "a",   "messages": [], "of_mine": [1, 2]}'
        answer = await front.ask("/v1/completions?x=1", body)
        seen = json.loads(answer.text)
        assert seen["asked"] == {"model": "a", "messages": [], "of_mine": [1, 2]}
        assert seen["path"] == "/v1/completions?x=1"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/v1/completions", "/upstream/a/v1/rerank"])
async def test_every_path_reaches_its_instance(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask(path, {"model": "a", "input": "x"})
        assert json.loads(answer.text)["path"] == path.removeprefix("/upstream/a")


async def test_upstream_has_any_method_and_no_body(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        slots = await front.ask("/upstream/a/slots", method="GET")
        assert json.loads(slots.text)[0]["id"] == 0
        assert (await front.ask("/upstream/a/health", method="GET")).status == 200


async def test_a_stream_is_relayed_as_it_comes(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.2)
    async with opened(house(tmp_path)) as front, front.stream("a", 5) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        await read_until(answer, "data:")
        assert front.house.launched("a#1") is not None
        rest = await answer.text()
        assert rest.count('"delta"') == 4


async def test_a_lease_ends_with_its_request_and_its_instance_stays(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await front.chat("a")
        await front.until(lambda: not front.house.state.leases)
        assert front.house.phases() == {"a#1": "ready"}


async def test_another_model_waits_for_the_stream_and_then_has_the_room(tmp_path: Path) -> None:
    """Never a generation cut by an eviction."""
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front:
        async with front.stream("a", 40) as answer:
            await read_until(answer, "data:")
            other = asyncio.create_task(front.chat("b"))
            await front.until(lambda: len(front.house.state.queue) == 1)
            text = await answer.text()
            assert text.count('"delta"') == 39
            assert not other.done()
        assert (await other).status == 200
        assert "a#1" not in front.house.phases()


async def test_a_waiting_stream_is_told_where_it_stands(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 40) as first:
        await read_until(first, "data:")
        async with front.stream("b", 3) as second:
            said = await read_until(second, "queued")
            assert second.status == 200
            assert "position=1" in said
            assert "instances=a#1" in said
            await first.read()
            rest = await second.text()
            assert "starting" in rest
            assert rest.count('"delta"') == 3
            assert "usage" in rest


async def test_those_who_want_the_same_model_stand_in_line(tmp_path: Path) -> None:
    """One instance of it, though there would be room for more: they have its slots in turn."""
    model(tmp_path, "a", token_seconds=0.02)
    async with opened(house(tmp_path, a={"estimated_memory_gb": 2})) as front:

        async def one() -> str:
            async with front.stream("a", 5) as answer:
                return str(await answer.text())

        texts = await asyncio.gather(*(one() for _ in range(6)))
        assert all(text.count('"delta"') == 5 for text in texts)
        assert list(front.house.phases()) == ["a#1"]


async def test_slots_are_had_at_once(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with (
        opened(house(tmp_path, a={"estimated_memory_gb": 2, "slots": 3})) as front,
        front.stream("a", 60) as x,
        front.stream("a", 60) as y,
        front.stream("a", 60) as z,
    ):
        for answer in (x, y, z):
            await read_until(answer, "data:")
        assert len(front.house.state.leases) == 3
        assert list(front.house.phases()) == ["a#1"]


async def test_instances_may_be_several(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with (
        opened(house(tmp_path, a={"estimated_memory_gb": 2}), instances=2) as front,
        front.stream("a", 60) as x,
        front.stream("a", 60) as y,
    ):
        for answer in (x, y):
            await read_until(answer, "data:")
        assert list(front.house.phases()) == ["a#1", "a#2"]


async def test_who_does_not_want_to_wait_is_told_when_to_come_again(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 100) as answer:
        await read_until(answer, "data:")
        refused = await front.ask("/v1/chat/completions", {"model": "b"}, Prefer="wait=0")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        error = json.loads(refused.text)["error"]
        assert error["code"] == "no_capacity"
        assert "a#1" in error["message"]
        await front.until(lambda: not front.house.state.queue)


async def test_one_in_line_for_the_same_model_is_told_at_once(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 100) as answer:
        await read_until(answer, "data:")
        assert (await front.ask("/v1/chat/completions", {"model": "a"}, Prefer="wait=0")).status == 429


async def test_a_wait_may_be_no_longer_than_configured(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path), wait=0) as front, front.stream("a", 100) as answer:
        await read_until(answer, "data:")
        assert (await front.ask("/v1/chat/completions", {"model": "b"}, Prefer="wait=600")).status == 429


async def test_not_wanting_to_wait_does_not_keep_a_model_from_being_started(tmp_path: Path) -> None:
    model(tmp_path, "a", load_seconds=0.5)
    async with opened(house(tmp_path), wait=0) as front:
        assert (await front.chat("a")).status == 200


async def test_a_stream_that_waits_too_long_ends_with_an_error(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 100) as first:
        await read_until(first, "data:")
        async with front.stream("b", 3, Prefer="wait=2") as second:
            text = await second.text()
            assert "queued" in text
            error = json.loads(text.rpartition("data: ")[2])["error"]
            assert error["code"] == "wait_expired"


async def test_a_client_that_goes_is_noticed_by_the_engine(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.02)
    async with opened(house(tmp_path)) as front:
        async with front.stream("a", 10_000) as answer:
            await read_until(answer, "data:")
            answer.close()
        assert (await front.chat("a")).status == 200, "its slot is free again"
        [lease] = front.house.state.leases.values()

        async def is_idle() -> bool:
            slots = await front.ask("/upstream/a/slots", method="GET")
            return not json.loads(slots.text)[0]["is_processing"]

        await until(is_idle)
        assert lease.instance == "a#1"


async def test_a_client_that_goes_while_it_waits_leaves_the_queue(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 100) as first:
        await read_until(first, "data:")
        waiting = asyncio.create_task(front.chat("b"))
        await front.until(lambda: len(front.house.state.queue) == 1)
        waiting.cancel()
        await front.until(lambda: not front.house.state.queue)


async def test_who_comes_as_another_leaves_is_not_forgotten(tmp_path: Path) -> None:
    """What the one had asked for is taken back; it is asked for again."""
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 40) as first:
        await read_until(first, "data:")
        waiting = asyncio.create_task(front.chat("b"))
        await front.until(lambda: len(front.house.state.queue) == 1)
        waiting.cancel()
        other = asyncio.create_task(front.chat("b"))
        await first.text()
        assert (await asyncio.wait_for(other, 20)).status == 200


async def test_a_stream_whose_instance_dies_ends_with_an_error(tmp_path: Path) -> None:
    """It is not ended as if it were whole."""
    model(tmp_path, "a", die_after=3)
    async with opened(house(tmp_path)) as front:
        async with front.stream("a", 20) as answer:
            *_, last = (await answer.text()).split("\n\n")[:-1]
        assert json.loads(last.strip().removeprefix("data: "))["error"]["code"] == "stopped"
        await front.until(lambda: not front.house.state.leases)


async def test_an_instance_that_has_died_is_not_asked_again(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await front.chat("a")
        launched = front.house.launched("a#1")
        assert launched is not None
        assert launched.endpoint is not None
        path = str(launched.endpoint.socket)
        await front.ask("/upstream/a/fake/exit", b"1")
        await front.until(lambda: _refuses(path))  # lmxd may not have noticed yet
        assert (await front.chat("a")).status == 200
        assert "a#2" in front.house.phases()


def _refuses(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) in (errno.ECONNREFUSED, errno.ENOENT)


async def test_a_launch_that_fails_is_said_with_its_log(tmp_path: Path) -> None:
    model(tmp_path, "a", exit={"status": 1, "lines": ["the weights are bad"]})
    async with opened(house(tmp_path)) as front:
        failed = await front.chat("a")
        assert failed.status == 502
        assert json.loads(failed.text)["error"]["code"] == "launch_failed"
        assert "the weights are bad" in failed.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b"{}", 400, "invalid_params"),
        (b'{"model": 3}', 400, "invalid_params"),
        (b'{"model": "nobody"}', 404, "model_not_found"),
        (b"[" * 100_000, 400, "invalid_request"),
    ],
)
async def test_bad_requests_are_said_to_be_bad(tmp_path: Path, body: bytes, status: int, code: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/v1/chat/completions", body)
        assert answer.status == status
        error = json.loads(answer.text)["error"]
        assert error["code"] == code
        assert error["message"]


async def test_what_can_never_fit_is_no_reason_to_ask_again(tmp_path: Path) -> None:
    async with opened(house(tmp_path, a={"estimated_memory_gb": 99})) as front:
        answer = await front.chat("a")
        assert (answer.status, json.loads(answer.text)["error"]["code"]) == (400, "never_fits")


async def test_a_path_that_there_is_not(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/v1/nothing")
        assert answer.status == 404
        assert json.loads(answer.text)["error"]["code"] == "unknown_method"
        wrong = await front.ask("/v1/chat/completions", method="GET")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
        assert "send POST" in wrong.text


async def test_the_queue_has_an_end(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    here = House(tmp_path, FakeNvml(card()), models={"a": ONE}, admission_control={"queue_depth": 2})
    async with opened(here) as front, front.stream("a", 60) as answer:
        await read_until(answer, "data:")
        waiting = [asyncio.create_task(front.chat("a")) for _ in range(2)]
        await front.until(lambda: len(front.house.state.queue) == 2)
        refused = await front.chat("a")
        assert (refused.status, json.loads(refused.text)["error"]["code"]) == (429, "queue_full")
        await answer.text()
        assert [(await task).status for task in waiting] == [200, 200]


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async with opened(house(tmp_path), max_body_mb=0.01) as front:
        answer = await front.ask("/v1/chat/completions", {"model": "a", "prompt": "x" * 20_000})
        assert answer.status == 413
        assert "max_body_mb" in answer.text


async def test_models_are_listed_as_openai_does(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        listed = json.loads((await front.ask("/v1/models", method="GET")).text)
        assert [x["id"] for x in listed["data"]] == ["a", "b"]
        one = json.loads((await front.ask("/v1/models/a", method="GET")).text)
        assert one == listed["data"][0]
        assert (await front.ask("/v1/models/none", method="GET")).status == 404


async def test_a_model_has_the_names_that_it_is_given(tmp_path: Path) -> None:
    """For tools that know but one name; it is one model all the same."""
    async with opened(house(tmp_path, a={**ONE, "aliases": ["gpt-4o-mini"]})) as front:
        assert (await front.chat("gpt-4o-mini")).status == 200
        assert (await front.chat("a")).status == 200
        assert list(front.house.phases()) == ["a#1"]
        listed = json.loads((await front.ask("/v1/models", method="GET")).text)
        assert [x["id"] for x in listed["data"]] == ["a", "gpt-4o-mini"]


async def test_engines_on_tcp_ports(tmp_path: Path) -> None:
    here = House(tmp_path, FakeNvml(card()), models={"a": ONE}, engine={"endpoint": "tcp"})
    async with opened(here) as front, front.stream("a", 3) as answer:
        assert (await answer.text()).count('"delta"') == 3


@pytest.mark.parametrize("load_seconds", [0.0, 1.6], ids=["at once", "after a wait"])
async def test_a_client_of_http_1_0_has_the_body_as_it_is(tmp_path: Path, load_seconds: float) -> None:
    """Such as nginx, unless it is told otherwise."""
    model(tmp_path, "a", load_seconds=load_seconds)
    async with opened(house(tmp_path)) as front:
        body = b'{"model": "a", "stream": true, "max_tokens": 2}'
        reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
        head = f"POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer {front.key}\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.count(b"delta") == 2
        assert b"Transfer-Encoding" not in answer
        events = answer.partition(b"\r\n\r\n")[2]
        assert events.startswith(b": " if load_seconds else b"data:")
        assert all(line.startswith((b"data: {", b": ")) for line in events.splitlines() if line), events


@contextlib.asynccontextmanager
async def unread(front: Front, tokens: int) -> AsyncIterator[socket.socket]:
    """A client that has asked for so many tokens of a, and does not read them by itself."""
    loop, port = asyncio.get_running_loop(), int(front.url.rpartition(":")[2])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        body = json.dumps({"model": "a", "stream": True, "max_tokens": tokens}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
        await loop.sock_sendall(client, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        yield client


async def test_a_reader_that_is_slow_does_not_fill_the_gateway(tmp_path: Path) -> None:
    """What waits for it stays with the engine."""
    model(tmp_path, "a", token_seconds=0, token_bytes=1000)
    async with opened(house(tmp_path)) as front:
        await front.chat("a")
        gc.freeze()  # searching through all that earlier tests left would keep this loop, and so the gateway, from work
        async with unread(front, tokens=10000) as slow:
            held = await _settled(front)
            gc.unfreeze()
            assert held < 2 * 2**20
            total = 0
            receive = asyncio.get_running_loop().sock_recv
            while not (data := await asyncio.wait_for(receive(slow, 2**20), 60)).endswith(b"0\r\n\r\n"):
                total += len(data)
            assert total > 8 * 2**20


async def test_a_client_that_reads_nothing_does_not_keep_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its instance could not make way for the other model as long as it has its lease."""
    monkeypatch.setattr("lmxd.gateway.answers.reply.UNREAD_TIMEOUT", 0.2)
    model(tmp_path, "a", token_seconds=0, token_bytes=10000)  # what lies between is soon full
    async with opened(house(tmp_path)) as front, unread(front, tokens=400000):
        await front.until(lambda: bool(front.house.state.leases))
        assert (await asyncio.wait_for(front.chat("b"), 60)).status == 200


async def _settled(front: Front) -> int:
    """Bytes that the gateway's connections wait to send, when no more are added."""
    from lmxd.gateway.answers.reply import Reply

    seen: deque[int] = deque(maxlen=20)
    replies: list[Reply] = []

    def settled() -> bool:
        if not seen or not seen[-1]:
            replies[:] = [x for x in gc.get_objects() if isinstance(x, Reply)]
        seen.append(max((x.unread for x in replies), default=0))
        return len(seen) == seen.maxlen and len(set(seen)) == 1 and seen[0] > 0

    await until(settled)
    return seen[0]


async def test_a_steady_stream_to_one_model_starves_no_other(tmp_path: Path) -> None:
    """As long as anybody waits, leases are given back after each request rather than passed on."""
    model(tmp_path, "a", token_seconds=0.01)
    here = house(tmp_path)
    here.write(admission_control={"quantum_loads": 0.1})  # a turn lasts for some loads: not for this test
    async with opened(here) as front:
        stop = asyncio.Event()

        async def again_and_again() -> None:
            while not stop.is_set():
                async with front.stream("a", 5) as answer:
                    await answer.read()

        crowd = [asyncio.create_task(again_and_again()) for _ in range(4)]
        await front.until(lambda: bool(front.house.state.leases))
        assert (await asyncio.wait_for(front.chat("b"), 30)).status == 200
        stop.set()
        await asyncio.gather(*crowd)


async def test_a_lease_asked_back_serves_nobody_else(tmp_path: Path) -> None:
    """Its holder lets the request in flight end, and no longer."""
    model(tmp_path, "a", token_seconds=0.05)
    async with opened(house(tmp_path)) as front, front.stream("a", 40) as answer, front.house.client() as rival:
        await read_until(answer, "data:")
        urgent = asyncio.create_task(rival.request("b", priority=50))
        await front.until(lambda: any(i.yielding for i in front.house.state.instances.values()))
        behind = asyncio.create_task(front.chat("a"))
        assert (await answer.text()).count('"delta"') == 39
        lease = await urgent
        assert lease.model == "b"
        await lease.release()
        assert (await behind).status == 200


async def test_one_instance_of_a_model_is_one_whatever_its_size_and_name(tmp_path: Path) -> None:
    """Five contexts were five instances."""
    model(tmp_path, "a", token_seconds=0.02)
    async with opened(house(tmp_path, a={"estimated_memory_gb": 2, "context_length": 2048, "aliases": ["x"]})) as front:
        most = 0

        def count() -> None:
            nonlocal most
            most = max(most, sum(i.live for i in front.house.state.instances.values()))

        async def ask(name: str, ctx: int) -> int:
            body = {"model": name, "prompt": "hi", "options": {"num_ctx": ctx, "num_predict": 5}}
            return int((await front.ask("/api/generate", body)).status)

        asked = [asyncio.create_task(ask("a" if n % 2 else "x", 2048 + 1024 * n)) for n in range(5)]

        def served() -> bool:
            count()
            return all(task.done() for task in asked)

        await until(served)
        assert [task.result() for task in asked] == [200] * 5
        assert most == 1
