"""The answer to a client: an instance's answer as it comes, and while there is none, signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.http import HttpVersion11

from lmxd.errors import LmxdError
from lmxd.gateway.answers import engine_errors
from lmxd.gateway.answers.events import collected
from lmxd.gateway.answers.names import NamedLines, called
from lmxd.gateway.answers.signs_of_life import SignsOfLife
from lmxd.gateway.answers.stream_events import StreamEvents, StreamLines
from lmxd.gateway.http.chunks import LAST_CHUNK, Chunks, chunk
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.origins import CORS
from lmxd.gateway.http.relayed_answer import RelayedAnswer
from lmxd.gateway.leasing.progress import RequestProgress
from lmxd.gateway.requests import failures
from lmxd.gateway.requests.failures import ErrorFormat, StatusError
from lmxd.listening.connection import UNREAD_TIMEOUT, cut

MAX_UNREAD: Final = 256 * 1024
"""Bytes of an answer that wait for their client, beyond which no more is read."""
_STREAM: Final = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n"
_END_OF_EVENT: Final = b"\n\n"
"""The end of an event that broke off after one of its lines."""
_LIFE: Final = 10.0
"""Seconds between signs of life."""


async def sent(stream: web.StreamResponse, data: bytes) -> None:
    """Send a part of a stream to a client that reads it; to another, ConnectionError."""
    try:
        async with asyncio.timeout(UNREAD_TIMEOUT):
            await stream.write(data)
    except TimeoutError:
        raise ConnectionResetError("the client reads nothing") from None


class Sent(web.StreamResponse):
    """A response that has been sent already, as bytes."""

    def __init__(self, status: int, *, reusable: bool) -> None:
        super().__init__(status=status)
        self._reusable = reusable

    @property
    def keep_alive(self) -> bool | None:
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Reply:
    """The answer to one request. ``life``: the signs of life that its client may get while it waits.

    ``model``: as its client calls it. ``events``: what makes those of an API whole.
    """

    def __init__(
        self, request: web.Request, model: str, *, life: SignsOfLife | None, events: StreamEvents | None = None
    ) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        self._request = request
        self._format = ErrorFormat.of(request.path, request.headers)
        self._cors = "".join(f"{name}: {value}\r\n" for name, value in request.get(CORS, {}).items()).encode("latin-1")
        self._transport: asyncio.Transport = request.transport
        self._chunked = request.version >= HttpVersion11
        self._model = model
        self._events: StreamLines | None = events
        self._begun = False
        self._passed_on = False
        """An instance's own head went out."""
        self._loop = asyncio.get_running_loop()
        self._standing, self._stood_at = RequestProgress(), self._loop.time()
        self._life = life
        self._timer = None if life is None else self._loop.call_later(life.patience, self._begin, life)

    @property
    def begun(self) -> bool:
        """It was begun with signs of life: its status can tell no error any more."""
        return self._begun

    @property
    def unread(self) -> int:
        """Bytes of it that its client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def progress(self, standing: RequestProgress) -> None:
        """Tell the client where its request stands; kept for later as long as no stream is begun."""
        before, self._standing = self._standing, standing
        self._stood_at = self._loop.time()
        if self._life is not None and self._begun and str(before) != str(standing):
            self._sign(self._life)

    def _sign(self, life: SignsOfLife) -> None:
        self._write(life.sign(str(self._standing.after(self._loop.time() - self._stood_at))))

    def _begin(self, life: SignsOfLife) -> None:
        if not self._begun:
            framing = b"Transfer-Encoding: chunked\r\n\r\n" if self._chunked else b"Connection: close\r\n\r\n"
            self._send(_STREAM.format(life.content_type).encode() + self._cors + framing)
            self._begun = True
        self._sign(life)
        self._timer = self._loop.call_later(_LIFE, self._begin, life)

    def _write(self, data: bytes) -> None:
        self._send(chunk(data) if self._chunked else data)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop's raises what is no ConnectionError
            self._transport.write(data)

    def stop_signs(self) -> None:
        """There is an answer: no sign of life any more."""
        if self._timer is not None:
            self._timer.cancel()

    def cut(self) -> None:
        """End what has been sent as it is: nobody takes it for whole."""
        if self._begun or self._passed_on:
            cut(self._transport)

    async def relay(self, exchange: RelayedAnswer, head: Head) -> web.StreamResponse:
        """An instance's answer, to its end. Nobody takes one that breaks off for whole: it ends with an error.

        That is an event where one can follow, else the end of the connection. LmxdError for an error that ``fail``
        is to tell.
        """
        self.stop_signs()
        if head.status >= 400:
            return await self._refused(exchange, head)
        if exchange.renamed and head.is_events:
            self._events = NamedLines(self._model, self._events)
        if self._life is not None and self._begun and not (head.status == 200 and (head.chunked or not self._chunked)):
            return await self._wrapped(exchange, head, self._life)
        if exchange.renamed and head.is_json and self._request.method != "HEAD":
            return await self._renamed(exchange, head)
        first = b""
        if not self._begun:
            self._passed_on = True
            first = head.raw(self._cors, chunks=self._chunked)
        sink = self._sink(exchange, first)
        if self._events is not None and head.chunked:
            whole = await self._amended(self._events, exchange, sink)
        else:
            exchange.hand_to(Chunks(sink).feed if head.chunked and not self._chunked else sink)
            sink(b"")  # the head, if nothing of the body has come with it
            whole = await exchange.ended()
        if not whole:
            return self._broken_off(exchange, head)
        return self._ended(head, reusable=whole and not head.until_closed)

    async def _renamed(self, exchange: RelayedAnswer, head: Head) -> Sent:
        """Send an answer in which the model has the name that the client knows."""
        found = called(await collected(exchange, head), self._model)
        self._passed_on = True
        self._send(head.of_length(len(found)).raw(self._cors, chunks=self._chunked) + found)
        return self._ended(head, reusable=not head.until_closed)

    async def _amended(self, events: StreamLines, exchange: RelayedAnswer, sink: Callable[[bytes], None]) -> bool:
        """Send the events of a stream made whole; whether it came to its end."""

        def take(data: bytes) -> None:
            if made := events.feed(data):
                sink(chunk(made) if self._chunked else made)

        exchange.hand_to(Chunks(take).feed)
        sink(b"")  # the head, as above
        whole = await exchange.ended()
        if whole:
            if events.rest:
                self._write(events.rest)
            self._send(LAST_CHUNK if self._chunked else b"")
        return whole

    def _broken_off(self, exchange: RelayedAnswer, head: Head) -> Sent:
        """End an answer that is not whole."""
        if not (head.is_events and exchange.between_chunks):
            cut(self._transport)
            return Sent(head.status, reusable=False)
        error = exchange.broken_off()
        return self._end(_END_OF_EVENT + failures.event_of(error, failures.status_of(error), self._format))

    async def _refused(self, exchange: RelayedAnswer, head: Head) -> web.StreamResponse:
        """An instance's error as it came, if clients of this API expect it so. Another is raised."""
        found = await collected(exchange, head)
        error = engine_errors.of_engine(found, head.status, self._request.path)
        status = failures.status_of(error) if head.status in (500, 501) else head.status
        ours = isinstance(error, StatusError) or bool(error.remedy)
        own = ours or self._format in (ErrorFormat.ANTHROPIC, ErrorFormat.OLLAMA)
        if self._begun or own or status != head.status or not engine_errors.is_told(found):
            raise StatusError(status, error.code, error.message, error.remedy)
        self._passed_on = True
        self._send(head.raw(self._cors, chunks=self._chunked))
        self._send((chunk(found) + LAST_CHUNK) if head.chunked and self._chunked else found)
        return self._ended(head, reusable=not head.until_closed)

    def _ended(self, head: Head, *, reusable: bool) -> Sent:
        """It was sent. The connection ends with it unless it may have another request."""
        reusable = reusable and self._chunked and self._request.keep_alive
        if not reusable:
            self._transport.close()
        return Sent(head.status, reusable=reusable)

    def _sink(self, exchange: RelayedAnswer, first: bytes) -> Callable[[bytes], None]:
        """A function that sends parts of an answer. ``first`` goes with the first of them: one packet, not two."""
        draining = False

        async def drain() -> None:
            nonlocal draining
            try:
                async with asyncio.timeout(UNREAD_TIMEOUT):
                    await self._request.writer.drain()
            except TimeoutError:
                cut(self._transport)  # its client is gone for all that matters, and others wait for the slot
                exchange.close()
                return
            except ConnectionError:
                pass
            draining = False
            exchange.resume()

        def write(data: bytes) -> None:
            nonlocal draining, first
            if self._transport.is_closing():
                exchange.close()
                return
            if first:
                first, data = b"", first + data
            if not data:
                return
            self._transport.write(data)
            if not draining and self.unread > MAX_UNREAD:
                draining = True
                exchange.pause()
                self._draining = asyncio.get_running_loop().create_task(drain())

        return write

    async def _wrapped(self, exchange: RelayedAnswer, head: Head, life: SignsOfLife) -> Sent:
        """Send an answer that is no stream as the rest of what was begun."""
        found = await collected(exchange, head)
        if exchange.renamed:
            found = called(found, self._model)
        return self._end(life.whole(found))

    def fail(self, error: LmxdError) -> web.StreamResponse:
        """Instead of an answer; the end of what was begun, which nobody takes for a success."""
        self.stop_signs()
        status = failures.status_of(error)
        if self._life is None or not self._begun:
            return failures.response(error, status, self._format)
        if (told := self._life.error(error, status, self._format)) is None:
            cut(self._transport)
            return Sent(status, reusable=False)
        return self._end(told)

    def _end(self, last: bytes) -> Sent:
        """End what was begun."""
        self._write(last)
        if self._chunked:
            self._send(LAST_CHUNK)
        else:
            self._transport.close()
        return Sent(200, reusable=self._chunked and self._request.keep_alive)
