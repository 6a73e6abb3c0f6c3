"""One connection of a client: what it must do in time, and that it may be cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Hashable
from typing import Any, Final

from aiohttp import ClientPayloadError, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError

from lmxd.listening.connections import Connections
from lmxd.rpc.peer import credentials

log = logging.getLogger(__name__)
HEAD_TIMEOUT: Final = 20.0
"""Seconds from the connection, or from the last answer, to a whole head. Clients close what is idle after 5 to 15."""
_MAX_HEAD: Final = 32 * 1024
"""Bytes of a request's head: many may be kept that never come to their end."""
UNREAD_TIMEOUT: Final = 60.0
"""Seconds within which a client must read what waits for it, some 256 KiB."""
LINGER: Final = 2.0
"""Seconds in which the rest of a body is read that was not wanted: a client that still sends can read its answer."""
_GONE: Final = (ConnectionError, ClientPayloadError, web.RequestPayloadError, PayloadAccessError, HttpProcessingError)
"""Errors of a client alone: it has gone, or what it sends is no HTTP."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: wait for nothing. A Unix socket knows no reset."""


class HttpConnection(web.RequestHandler):
    """One connection, among all of a listener. A ``busy`` one has a request that is being answered.

    A ``known`` one has shown whose it is. All others end with their first answer, whatever came behind it.
    """

    __slots__ = ("_all", "_begun", "_body", "_head", "busy", "client", "known")

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            keepalive_timeout=HEAD_TIMEOUT,
            lingering_time=LINGER,
            auto_decompress=False,  # of a body that is refused all would be unpacked, without a turn for others
        )
        self._all = connections
        self.client: Hashable = None
        self.busy = self.known = False
        self._body: StreamReader | None = None
        """The body of the request that was read last, or is being read. A head may follow once it is whole."""
        self._begun = 0
        """Requests of which the head was whole."""
        self._head = 0
        """Bytes so far of a head that has not come to its end."""

    def data_received(self, data: bytes) -> None:
        is_head = self._body is None or self._body.is_eof()
        super().data_received(data)
        if not self._has_begun_another() and is_head:
            self._head += len(data)
            if self._head > _MAX_HEAD:
                self.cut()

    def _has_begun_another(self) -> bool:
        """Whether the head of another request was whole, of which aiohttp has taken note."""
        if self._request_count == self._begun:
            return False
        self._begun = self._request_count
        self._body, self._head = self._messages[-1][1], 0
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client = sender(transport)
        super().connection_made(transport)
        self._all.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.leave(self)
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, to a client that reads it."""
        if not self.known:
            resp.force_close()
        try:
            async with asyncio.timeout(UNREAD_TIMEOUT):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            self.cut()
            return resp, True
        finally:
            self.busy = False
            self._has_begun_another()  # behind a request to upgrade, which aiohttp keeps unread until now

    def begin(self, caller: Hashable | None) -> None:
        """One of its requests is being answered. ``caller``: whose it is, unless that is a stranger."""
        if caller is not None:
            self._all.recognize(self, caller)
            self.known = True
        self.busy = True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP: a short one, and nothing in the log. Others decide how often that comes."""
        if status >= 500 and isinstance(exc, _GONE):
            self.cut()  # there is nobody to answer
            raise ConnectionResetError("the client has gone") from exc
        if status >= 500 and not isinstance(exc, UnicodeError):  # aiohttp's own, over headers that are no text
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=400, text="this is no HTTP/1.1 request\n")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error of ours. A client causes its own as often as it likes."""
        if not isinstance(kw.get("exc_info"), _GONE):
            super().log_exception(*args, **kw)

    def cut(self) -> None:
        """End it as it is: whatever was being sent does not come to its end."""
        if self.transport is not None:
            cut(self.transport)


def cut(transport: asyncio.WriteTransport) -> None:
    """End a connection with a reset, and not with the end of a file: to some that is how a whole answer ends."""
    found: socket.socket | None = transport.get_extra_info("socket")
    if found is not None and not transport.is_closing():
        with contextlib.suppress(OSError):  # its client has closed it
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def begin(request: web.BaseRequest, caller: Hashable | None) -> None:
    """A request is being answered, for a caller if it is known. LmxdError ``too_many`` if that has too many."""
    connection = request.protocol
    if isinstance(connection, HttpConnection):
        connection.begin(caller)


def sender(transport: asyncio.BaseTransport) -> Hashable:
    """The uid at the other end of a Unix socket, else the address."""
    found: socket.socket | None = transport.get_extra_info("socket")
    if found is not None and found.family == socket.AF_UNIX:
        return credentials(found)[1]
    address = transport.get_extra_info("peername")
    return str(address[0]) if address else None
