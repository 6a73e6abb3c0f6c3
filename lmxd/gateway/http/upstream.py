"""One request to an instance: sent as bytes, its answer's body handed on as it comes, neither parsed nor copied.

A connection serves the requests of one lease, for llama-server gives every open one a thread, and for other engines an
open connection means a busy one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

from lmxd.errors import LmxdError
from lmxd.gateway.http.chunks import BadAnswer
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.http.http1 import Body, Head, read_head
from lmxd.gateway.http.kept_connections import KeptConnections
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.rpc.client.connecting import connect_soon
from lmxd.rpc.messages import Granted

_CONNECT_TIMEOUT: Final = 5.0
"""Seconds to be let in by an instance to which many connect: llama-server has only few of them wait."""
CLIENT_LEFT: Final = 499
"""nginx's status for a client that left before the end of its answer."""
BROKEN_OFF: Final = 502
"""Of an answer that its engine did not bring to its end."""
_AT_A_TIME: Final = 256 * 1024
_LOG: Final = "ask again; its log may say why (lmxctl logs, for an administrator)"


class Unreachable(LmxdError):
    """The error for an instance that could not be asked: another may be."""

    def __init__(self, model: str, why: object) -> None:
        super().__init__("stopped", f"{model} does not answer: {why}", _LOG)


class Exchange(asyncio.Protocol):
    """One request to an instance, and its answer.

    ``bodiless``: the answer to a HEAD. ``keep``: takes the connection at the end of an answer that leaves it open; None
    if it serves no other request. ``renamed``: its engine calls its model otherwise than its profile does.
    """

    def __init__(
        self, *, bodiless: bool, keep: Callable[[asyncio.Transport], None] | None, renamed: bool = False
    ) -> None:
        self.edges = Edges()
        self.renamed = renamed
        self._bodiless = bodiless
        self._keep = keep
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._eof = False
        self.left = False
        """Nobody listens any longer, though it was not over."""
        self._error: Exception | None = None
        self._to: Callable[[bytes], object] | None = None
        self._body: Body | None = None
        self._unsent: int | None = None
        """A descriptor of the connection until the request is sent: a write that fails closes the transport at once."""

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no base class
        self._transport.set_write_buffer_limits(0)
        with contextlib.suppress(OSError):
            self._unsent = os.dup(transport.get_extra_info("socket").fileno())

    def resume_writing(self) -> None:
        self._is_sent()

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data)
        except BadAnswer as error:
            self._end(error)

    def eof_received(self) -> None:
        self._eof = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._unsent is not None and not self._ended.is_set():
            self._read_on(self._unsent)
        self._is_sent()
        self._end(exc)

    def _read_on(self, descriptor: int) -> None:
        """Take what an engine has answered that would not read all of the request."""
        try:
            while data := os.read(descriptor, _AT_A_TIME):
                self.data_received(data)
        except OSError:
            return

    def _is_sent(self) -> None:
        if self._unsent is not None:
            os.close(self._unsent)
            self._unsent = None

    def _take(self, data: bytes) -> None:
        if self._to is not None and self._body is not None:
            self._pass_on(data)
            return
        self._seen += data
        if not self._head.done() and (found := read_head(self._seen)):
            head, self._seen = found
            self._body = Body(head, bodiless=self._bodiless)
            self._head.set_result(head)

    def _pass_on(self, data: bytes) -> None:
        assert self._to is not None
        assert self._body is not None
        if own := self._body.feed(data):
            self.edges.keep(own)
            self._to(own)
        if self._body.done:
            if len(own) == len(data):
                self._hand_back()
            self._end(None)

    def _hand_back(self) -> None:
        """Give the connection to who keeps it, if another request can be sent on it."""
        transport, lasts = self._transport, self._head.result().lasting and not (self._eof or self._paused)
        if self._keep is None or transport is None or transport.is_closing() or self._unsent is not None or not lasts:
            return
        self._transport = None
        self._keep(transport)

    def _end(self, error: Exception | None) -> None:
        if self._error is None or isinstance(error, BadAnswer):
            self._error = error or ConnectionResetError("it closed the connection")
        if not self._head.done():
            self._head.set_exception(self._error)
            self._head.exception()  # nobody may be waiting for it any longer
        self._ended.set()
        if self._transport is not None:
            self._transport.close()

    # what the relay calls

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def send(self, *parts: bytes) -> None:
        """Send the whole request."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.writelines(parts)
        if not self._transport.is_closing() and not self._transport.get_write_buffer_size():
            self._is_sent()

    async def head(self) -> Head:
        """LmxdError as ``broken_off`` says, if there is none: whatever that was, it is asked no other instance."""
        try:
            return await asyncio.shield(self._head)
        except (OSError, BadAnswer) as error:
            raise self.broken_off() from error

    async def was_closed(self) -> bool:
        """Whether a connection that had been kept ended before any of an answer came: its engine was closing it."""
        try:
            await asyncio.wait([self._head])
        except asyncio.CancelledError:
            self.close()
            raise
        return self._head.exception() is not None and not self._seen and not isinstance(self._error, BadAnswer)

    def broken_off(self) -> LmxdError:
        """The reason why its answer is not whole: ``bad_answer`` or ``stopped``."""
        if isinstance(self._error, BadAnswer):
            return LmxdError(
                "bad_answer", f"what the instance answers is no HTTP/1.1: {self._error}", "see to the engine"
            )
        return LmxdError(
            "stopped",
            f"the instance broke off: {self._error}",
            _LOG,
        )

    def hand_to(self, to: Callable[[bytes], object]) -> None:
        """Hand the body to ``to``, which may raise BadAnswer: at once what there is of it, and the rest as it comes."""
        assert self._body is not None
        self._to, seen, self._seen = to, self._seen, b""
        self.data_received(seen)

    async def body(self, to: Callable[[bytes], object]) -> bool:
        """The same, to its end; whether it came to that."""
        self.hand_to(to)
        return await self.ended()

    async def kept_body(self) -> bytes:
        """The whole body, which stays to be handed on: for one that is short. LmxdError if it broke off."""
        whole, head = bytearray(), self._head.result()
        if not await self.body(whole.extend):
            raise self.broken_off()
        self._body, self._to, self._seen, self.edges = Body(head, bodiless=self._bodiless), None, bytes(whole), Edges()
        return bytes(whole)

    def put(self, body: bytes) -> Head:
        """Hand on another body in place of the one that was kept; the head of it."""
        head = self._head.result().of_length(len(body))
        self._body, self._seen = Body(head, bodiless=self._bodiless), body
        return head

    async def ended(self) -> bool:
        """Whether the body that is handed on came to its end."""
        await self._ended.wait()
        return self._is_whole()

    def _is_whole(self) -> bool:
        assert self._body is not None
        if isinstance(self._error, BadAnswer):
            return False
        return self._body.done or (self._eof and self._head.result().until_closed)

    @property
    def between_chunks(self) -> bool:
        """The body so far ends with a chunk, so that another may follow."""
        return self._body is not None and self._body.between_chunks and not isinstance(self._error, BadAnswer)

    def outcome(self, head: Head) -> int:
        """The status by which to count an answer that was passed on: the engine's, unless it is not whole."""
        if self.left:
            return CLIENT_LEFT
        return head.status if self._is_whole() else BROKEN_OFF

    def close(self) -> None:
        """An engine that is still at it notices that nobody listens any longer."""
        self.left = self.left or not self._ended.is_set()
        self._end(None)


async def exchange(lease: Granted, call: UpstreamCall, kept: KeptConnections) -> Exchange:
    """Send a request to a leased instance, on the connection that its lease has if it has one. Raises Unreachable.

    An engine may close that just then, and has not read the request: it is asked over another, once.
    """
    make = partial(
        Exchange,
        bodiless=call.method == "HEAD",
        keep=partial(kept.put, lease.lease) if call.is_framed else None,
        renamed=lease.upstream_name is not None,
    )
    before = None
    if (transport := kept.take(lease.lease)) is not None:
        before = make()
        transport.set_protocol(before)
        before.connection_made(transport)
        _send(before, lease, call)
        if not await before.was_closed():
            return before
    try:
        found = await _connected(lease, make)
    except OSError as error:
        if before is not None:  # it has ended with what it was asked: no other instance is asked that
            raise before.broken_off() from error
        raise Unreachable(lease.instance, error.strerror or error) from error
    _send(found, lease, call)
    return found


async def _connected(lease: Granted, make: Callable[[], Exchange]) -> Exchange:
    loop, at = asyncio.get_running_loop(), urlsplit(lease.endpoint)
    if lease.socket:
        sock = await connect_soon(lease.socket, _CONNECT_TIMEOUT)
        return (await loop.create_unix_connection(make, sock=sock))[1]
    return (await loop.create_connection(make, at.hostname or "", at.port or 80))[1]


def _send(to: Exchange, lease: Granted, call: UpstreamCall) -> None:
    to.send(call.to(lease), *((call.body,) if call.body else ()))
