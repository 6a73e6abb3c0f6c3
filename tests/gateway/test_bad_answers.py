"""Engines that answer what no engine must: refused before a byte of it is sent on, or cut off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.gateway.chunks import chunk
from lmxd.gateway.events import events
from lmxd.gateway.http1 import Head
from lmxd.gateway.upstream import Exchange
from lmxd.listening.connection import cut

OK = b"HTTP/1.1 200 OK\r\n"
HEADS = [
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    OK + b"Content-Length: 5, 6\r\n\r\nabcdef",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\nab",
    OK + b"X: y\r\n z\r\nContent-Length: 0\r\n\r\n",
    OK + b"X : y\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: y\x00\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nab",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/3 200 OK\r\n\r\n",
    b"no HTTP at all\r\n\r\n",
    OK + b"X: " + b"y" * 70_000,
]
BODIES = [b"0x2\r\nab\r\n0\r\n\r\n", b"+2\r\nab\r\n", b"2\nab\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n", b"fffffffff\r\nab"]


async def says(front: Front, answer: bytes) -> None:
    """Have the engine of a answer so from here on."""
    assert (await front.ask("/upstream/a/fake/answer", answer)).status == 200


@pytest.mark.parametrize("head", HEADS, ids=lambda x: ascii(x[:50]))
async def test_an_answer_that_could_be_taken_for_two_is_a_502(tmp_path: Path, head: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, head)
        for path, body in (("/v1/completions", {"model": "a"}), ("/upstream/a/x", {})):
            answer = await front.ask(path, body)
            assert (answer.status, json.loads(answer.text)["error"]["code"]) == (502, "bad_answer")
        assert (await front.ask("/api/generate", {"model": "a", "prompt": "x"})).status == 502
        await front.until(lambda: not front.house.state.leases)


@pytest.mark.parametrize("body", BODIES, ids=ascii)
async def test_a_body_that_could_be_taken_for_two_is_cut_off(tmp_path: Path, body: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        with pytest.raises(aiohttp.ClientPayloadError):
            await front.ask("/v1/completions", {"model": "a"})
        whole = await front.ask("/api/generate", {"model": "a", "prompt": "x", "stream": False})
        assert whole.status == 502
        await front.until(lambda: not front.house.state.leases)


async def asked_in_http_1_0(front: Front) -> bytes:
    """An answer to a client that knows no chunks. ConnectionError if it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    body = b'{"model": "a"}'
    head = f"POST /v1/completions HTTP/1.0\r\nAuthorization: Bearer {front.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_an_answer_that_breaks_off_is_not_whole_for_a_client_that_knows_no_chunks(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        begun = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1, 2\r\n"
        await says(front, begun)
        with pytest.raises(ConnectionResetError):
            await asked_in_http_1_0(front)
        await says(front, begun + b"1\r\n]\r\n0\r\n\r\n")
        assert (await asked_in_http_1_0(front)).endswith(b"\r\n\r\n[1, 2]")


@pytest.mark.parametrize("reset", [True, False])
async def test_an_answer_without_a_length_is_whole_unless_its_engine_is_reset(reset: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n[1, 2")
        await reader.readline()
        if reset:
            cut(writer.transport)
        writer.close()

    got = bytearray()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        place = server.sockets[0].getsockname()
        loop = asyncio.get_running_loop()
        _, engine = await loop.create_connection(lambda: Exchange(bodiless=False, keep=lambda _: None), *place)
        await engine.head()
        engine.send(b"go on\n")
        assert await engine.body(got.extend) is not reset
    assert got == b"[1, 2"


async def test_what_comes_after_an_answer_is_no_answer(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, OK + b"Content-Length: 2\r\n\r\nab" + OK + b"Content-Length: 4\r\n\r\nevil")
        for _ in range(2):
            assert (await front.ask("/v1/completions", {"model": "a"})).text == "ab"


@pytest.mark.parametrize(
    "event",
    [
        {"choices": 3},
        {"choices": [3]},
        {"choices": [{"delta": 3}]},
        {"choices": [{"delta": {"content": 3}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": []}]}}]},
        {"usage": []},
        {"usage": {"prompt_tokens": -5}},
        {"usage": {"completion_tokens": 10**40}},
        {"timings": {"prompt_ms": 1e300}},
        [],
        "x",
    ],
    ids=str,
)
async def test_an_event_of_the_wrong_types_is_the_engines_fault(tmp_path: Path, event: Any) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, OK + b"\r\ndata: " + json.dumps(event).encode() + b"\n\n")
        whole = await front.ask("/api/generate", {"model": "a", "prompt": "x", "stream": False})
        assert whole.status == 502, whole.text
        lines = (await front.ask("/api/generate", {"model": "a", "prompt": "x"})).text.splitlines()
        assert "error" in json.loads(lines[-1])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 3}', b'{"data": [{}]}', b"\xff", b'{"data": [3]}'], ids=ascii)
async def test_vectors_that_are_none_are_the_engines_fault(tmp_path: Path, body: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await front.ask("/api/embed", {"model": "a", "input": "x"})).status == 502


@pytest.mark.parametrize("status", [b"400 Bad", b"500 Bad", b"503 Busy"])
@pytest.mark.parametrize("body", [b"no json", b'{"error": {"message": "why"}}', b'{"error": "why"}', b"[3]", b"\xff"])
async def test_an_engines_error_is_said_to_be_its(tmp_path: Path, status: bytes, body: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = await front.ask("/api/generate", {"model": "a", "prompt": "x"})
        assert answer.status == (400 if status.startswith(b"4") else 502)
        assert "report this" not in answer.text


async def test_others_are_answered_while_many_events_come_at_once() -> None:
    """The events of one answer had the loop to themselves."""

    class Instance:
        """Answers all at once."""

        async def body(self, to: Any) -> bool:
            to(b"".join(map(chunk, (b"data: {}\n\n",) * 5000)))
            return True

        def pause(self) -> None: ...
        def resume(self) -> None: ...

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    asking = asyncio.create_task(other())
    answer: Any = Instance()
    found = [x async for x in events(answer, Head(status=200, length=None, chunked=True, lines=()))]
    asking.cancel()
    assert len(found) == 5000
    assert turns > 15
