"""TLS of a listener: its certificate, and what a connection is until it is agreed on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final, cast

from lmxd.errors import LmxdError
from lmxd.listening.connection import HEAD_TIMEOUT, HttpConnection, cut, sender
from lmxd.listening.connections import Connections

_LARGEST: Final = 64 * 1024
"""Bytes that may come behind a handshake before the connection is taken over: all of a request's head, and more."""


class Certificate:
    """A certificate and its private key, which may be renewed while it is in use."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """LmxdError ``config`` if they cannot be used."""
        self._cert, self._key = cert, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.refresh()

    def refresh(self) -> None:
        """Read the files again, for connections to come. LmxdError ``config``, and what was in force stays so."""
        for key, path in (("tls_cert", self._cert), ("tls_key", self._key)):
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as error:
                remedy = "it must be there, and readable by the user that the gateway runs as"
                raise LmxdError("config", f"gateway.{key} {path}: {error.strerror}", remedy) from error
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for context in (trial, self.context):
                context.load_cert_chain(self._cert, self._key, password=_no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            remedy = "give a PEM certificate in tls_cert, and its own key, without a password, in tls_key"
            raise LmxdError("config", f"gateway.tls_cert {self._cert}: {reason}", remedy) from error


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise ValueError("its key has a password")


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
        try:
            secure = await loop.start_tls(
                self._transport, self, self._context, server_side=True, ssl_handshake_timeout=HEAD_TIMEOUT
            )
        except (OSError, asyncio.CancelledError):  # TLS is none of its languages, it has gone, or it took too long
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
            http.data_received(self._early)
