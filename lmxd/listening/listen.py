"""The address at which an HTTP server listens: one of the configuration."""

from __future__ import annotations

import asyncio
import errno
import ssl
from pathlib import Path

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.listening.connection import HttpConnection
from lmxd.listening.connections import Connections
from lmxd.listening.tls import Handshake


class Site(web.BaseSite):
    """A place where a server listens, whose connections are ours to bound.

    ``mode``: of the socket file. ``tls``: what is spoken there instead of plain HTTP.
    """

    __slots__ = ("_address", "_connections", "_mode", "_tls")

    def __init__(
        self,
        runner: web.BaseRunner,
        address: str,
        connections: Connections,
        *,
        mode: int | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner)
        self._address, self._connections, self._mode, self._tls = address, connections, mode, tls

    @property
    def name(self) -> str:
        return self._address

    async def start(self) -> None:
        """Begin to listen. OSError if that cannot be had."""
        await super().start()
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert server is not None

        def http() -> HttpConnection:
            return HttpConnection(server, self._connections)

        def connection() -> asyncio.Protocol:
            return http() if self._tls is None else Handshake(self._tls, self._connections, http)

        if self._address.startswith("unix:"):
            path = Path(self._address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            self._server = await loop.create_unix_server(connection, str(path), backlog=self._backlog)
            if self._mode is not None:
                path.chmod(self._mode)
        else:
            host, _, port = self._address.rpartition(":")
            self._server = await loop.create_server(connection, host.strip("[]"), int(port), backlog=self._backlog)


async def listen(
    runner: web.BaseRunner,
    key: str,
    address: str,
    connections: Connections,
    *,
    mode: int | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Begin to, at ``ADDRESS:PORT`` or ``unix:PATH``; ``mode`` is the socket file's.

    LmxdError ``config``, which names the ``key``, if that cannot be had.
    """
    try:
        await Site(runner, address, connections, mode=mode, tls=tls).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "if it does not run here already, choose another port"
            raise LmxdError("config", f"{key} {address}: address already in use", remedy) from error
        raise LmxdError("config", f"{key} {address}: {error.strerror}", "choose another") from error
