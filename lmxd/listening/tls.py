"""TLS of a listener: a connection until it is agreed on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Hashable
from typing import Final, cast

from lmxd.listening.connection import HEAD_TIMEOUT, HttpConnection, cut, sender
from lmxd.listening.connections import Connections

_LARGEST: Final = 64 * 1024
"""Bytes that may come behind a handshake before the connection is taken over: all of a request's head, and more."""


class Handshake(asyncio.Protocol):
    """A connection that agrees on TLS, and counts as a stranger's like any other; then it becomes one for HTTP."""

    def __init__(self, context: ssl.SSLContext, all_: Connections, http: Callable[[], HttpConnection]) -> None:
        self._context, self._all, self._http = context, all_, http
        self.client: Hashable = None
        self.busy = False
        self._early = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()  # nothing is lost until TLS reads it
        self.client = sender(transport)
        self._all.admit(self)
        self._task = asyncio.get_running_loop().create_task(self._agree())

    def data_received(self, data: bytes) -> None:
        """A request may come with the last words of the handshake."""
        self._early += data
        if len(self._early) > _LARGEST:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self)

    def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            cut(self._transport)

    async def _agree(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        self._transport.pause_reading()  # uvloop has begun to read since, whatever was said before
        agreeing = loop.create_task(
            loop.start_tls(self._transport, self, self._context, server_side=True, ssl_handshake_timeout=HEAD_TIMEOUT)
        )
        try:
            await asyncio.sleep(0)  # TLS is in place, and begins in the next turn
            if self._early:
                loop.call_soon(_hand_over, self._transport, self._early)
                self._early = b""
            secure = await agreeing
        except (OSError, asyncio.CancelledError):  # TLS is none of its languages, it has gone, or it took too long
            self._all.leave(self)
            agreeing.cancel()
            with contextlib.suppress(OSError):
                self._transport.abort()
            return
        self._all.leave(self)
        if secure is None or secure.is_closing():
            return
        http = self._http()
        secure.set_protocol(http)
        http.connection_made(secure)
        if self._early:
            http.data_received(self._early)


def _hand_over(transport: asyncio.Transport, first: bytes) -> None:
    """Give TLS the first words of a handshake, which came before it was in place."""
    protocol = cast(asyncio.BufferedProtocol, transport.get_protocol())  # asyncio's loop never comes here
    while first:
        place = memoryview(protocol.get_buffer(len(first)))
        taken = min(len(place), len(first))
        place[:taken] = first[:taken]
        protocol.buffer_updated(taken)
        first = first[taken:]
