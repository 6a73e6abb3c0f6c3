"""TLS of a listener: a connection until it is agreed on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Hashable
from typing import Any, Final, cast

from lmxd.listening.connection import HEAD_TIMEOUT, HttpConnection, cut, sender
from lmxd.listening.connections import Connections

_LARGEST: Final = 64 * 1024
"""Bytes of a first message, before TLS reads."""


class Handshake(asyncio.Protocol):
    """A connection that agrees on TLS, and counts as a stranger's like any other; then it becomes one for HTTP."""

    def __init__(self, context: ssl.SSLContext, all_: Connections, http: Callable[[], HttpConnection]) -> None:
        self._context, self._all, self._http = context, all_, http
        self.client: Hashable = None
        self.busy = False
        self._hello = self._early = b""
        self._agreeing = False
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()  # until TLS reads; but uvloop begins to read after this, whatever is said here
        self.client = sender(transport)
        self._all.admit(self)
        self._task = asyncio.get_running_loop().create_task(self._agree())

    def data_received(self, data: bytes) -> None:
        """The first words of the handshake, before TLS reads; and a request that came with the last ones.

        A long one waits for whoever takes over: no more of it is read than has come.
        """
        if self._agreeing:
            self._early += data
            if self._transport is not None:
                self._transport.pause_reading()
            return
        self._hello += data
        if len(self._hello) > _LARGEST:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self)

    def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            cut(self._transport)

    def _say_hello(self) -> None:
        """Give TLS the words that were read before it was there."""
        assert self._transport is not None
        tls: Any = self._transport.get_protocol()  # asyncio's, or uvloop's: both are a BufferedProtocol
        while self._hello and tls is not None and tls is not self:  # None: it was cut just now
            buffer = tls.get_buffer(len(self._hello))
            count = min(len(buffer), len(self._hello))
            buffer[:count], self._hello = self._hello[:count], self._hello[count:]
            tls.buffer_updated(count)

    async def _agree(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        agreed = loop.create_task(
            loop.start_tls(self._transport, self, self._context, server_side=True, ssl_handshake_timeout=HEAD_TIMEOUT)
        )
        try:
            await asyncio.sleep(0)
            self._agreeing = True  # TLS reads, once it has been told of the connection; and of these words next
            loop.call_soon(self._say_hello)
            secure = await agreed
        except (OSError, asyncio.CancelledError):  # TLS is none of its languages, it has gone, or it took too long
            agreed.cancel()
            self._all.leave(self)
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
            if not self._transport.is_closing():
                self._transport.resume_reading()
            http.data_received(self._early)
