"""A stream of two parts, as whoever hands it on reads it: paused, left and broken off as that of one exchange."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from lmxd.errors import LmxdError
from lmxd.gateway.answers.seams import Seam
from lmxd.gateway.answers.walls import Remainder, WalledAnswer
from lmxd.gateway.answers.written import Written
from lmxd.gateway.http.chunks import LAST_CHUNK, Chunks, chunk
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.upstream import BROKEN_OFF, CLIENT_LEFT
from lmxd.gateway.leasing.progress import RequestProgress

HEAD = Head(status=200, length=None, chunked=True, lines=())
Told = Callable[[RequestProgress], None]


def event(text: str, end: str | None = None) -> bytes:
    said = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


class Part:
    """An exchange that says what a test has it say."""

    def __init__(self) -> None:
        self.renamed = False
        self.edges = Edges()
        self.between_chunks = True
        self.is_paused = self.is_closed = False
        self.end: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.say: Callable[[bytes], object] = lambda _: None
        self.handed = asyncio.Event()

    def hand_to(self, to: Callable[[bytes], object]) -> None:
        self.say = lambda data: to(chunk(data))
        self.handed.set()

    async def body(self, to: Callable[[bytes], object]) -> bool:
        self.hand_to(to)
        return await self.ended()

    async def ended(self) -> bool:
        return await asyncio.shield(self.end)

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def broken_off(self) -> LmxdError:
        return LmxdError("stopped", "it broke off", "ask again")

    def outcome(self, head: Head) -> int:
        return head.status

    def close(self) -> None:
        self.is_closed = True
        if not self.end.done():
            self.end.set_result(False)


class Both:
    """Two parts, the second of which is found when a test says so, and what a client has of them."""

    def __init__(self) -> None:
        self.first, self.rest = Part(), Part()
        self.found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told: Told = lambda _: None
        self.asked = asyncio.Event()
        self.answer = WalledAnswer(self.first, self.onward)
        self.body = bytearray()
        self.reading = asyncio.create_task(self.answer.body(self.take))

    def take(self, data: bytes) -> None:
        self.body += data

    async def onward(self, written: Written, told: Told) -> Remainder | None:
        self.told = told
        self.asked.set()
        await self.found
        return Remainder(self.rest, Seam(written, repeats=False))

    async def at_its_wall(self) -> None:
        await self.first.handed.wait()
        self.first.say(event("one"))
        self.first.say(event("", "length"))
        self.first.end.set_result(True)
        await self.asked.wait()

    @property
    def text(self) -> bytes:
        found = bytearray()
        Chunks(found.extend).feed(bytes(self.body))
        return bytes(found)


async def test_its_end_is_held_back_and_comments_say_how_it_stands() -> None:
    both = Both()
    await both.at_its_wall()
    for _ in range(2):
        both.told(RequestProgress(state="growing", position=1))
    assert both.text == event("one") + b": growing position=1\n\n"
    both.found.set_result(None)
    await both.rest.handed.wait()
    both.rest.say(event(" two", "stop"))
    both.rest.end.set_result(True)
    assert await both.reading
    assert b"length" not in both.text
    assert both.text.endswith(b'" two"},"finish_reason":"stop"}]}\n\n')
    assert both.body.endswith(LAST_CHUNK)
    assert both.answer.outcome(HEAD) == 200


async def test_a_client_that_reads_nothing_pauses_the_part_that_is_said() -> None:
    both = Both()
    await both.at_its_wall()
    both.answer.pause()
    assert both.first.is_paused
    both.found.set_result(None)
    await both.rest.handed.wait()
    assert both.rest.is_paused
    both.answer.resume()
    assert not both.rest.is_paused
    both.rest.end.set_result(True)
    assert await both.reading


async def test_a_client_that_left_at_the_wall_has_the_rest_closed_too() -> None:
    both = Both()
    await both.at_its_wall()
    both.answer.close()
    both.found.set_result(None)
    assert not await both.reading
    assert both.rest.is_closed
    assert both.answer.outcome(HEAD) == CLIENT_LEFT


async def test_a_part_that_breaks_off_leaves_the_whole_broken_off() -> None:
    for is_first in (True, False):
        both = Both()
        if is_first:
            await both.first.handed.wait()
            both.first.end.set_result(False)
        else:
            await both.at_its_wall()
            both.found.set_result(None)
            both.rest.end.set_result(False)
        assert not await both.reading
        assert LAST_CHUNK not in both.body
        assert both.answer.outcome(HEAD) == BROKEN_OFF


async def test_a_line_that_nothing_ends_goes_out_at_the_end() -> None:
    both = Both()
    await both.first.handed.wait()
    both.first.say(event("one") + b"data: [DO")
    both.first.say(b"NE]")
    both.first.end.set_result(True)
    assert await both.reading
    assert both.text == event("one") + b"data: [DONE]"
