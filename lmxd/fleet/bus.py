"""NATS, by which the members of a fleet hear of each other."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client
from nats.errors import Error
from nats.nuid import NUID, TOTAL_LENGTH

from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.tls import client_context

log = logging.getLogger(__name__)
_PING: Final = 2
"""Seconds between two signs of life. A server that misses two of them is left for another."""
_PAUSE: Final = 1
"""Seconds between two tries to connect to the same server."""
_NOT_PERMITTED: Final = "permissions violation"
"""The one error after which a server goes on with a connection."""
_NOT_LET_IN: Final = "authorization violation"
_STRANGER: Final = (
    " (if this box was removed: lmxd fleet token on the box of lmxd fleet init, then lmxd fleet join here)"
)


class _NoEndOfConnections(logging.Filter):
    """Leaves out what asyncio warns of at each end of a connection of nats-py's: nobody can do anything about it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("returning true from eof_received()")


_QUIET: Final = _NoEndOfConnections()
Notified = Callable[[], Awaitable[None]]


async def _nobody() -> None:
    """Nobody wants to be told."""


class _Unguessable(NUID):
    """Names of inboxes: who has seen one of nats-py's, which count, would know where answers of others are awaited."""

    def next(self) -> bytearray:
        return bytearray(secrets.token_hex(TOTAL_LENGTH // 2).encode())


class LastingClient(Client):
    """Goes to a server again after an error that it has told, where nats-py would close for good.

    A server tells one when its authority has written its configuration anew, or was too slow: that passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nuid = _Unguessable()

    async def _process_op_err(self, e: Exception) -> None:
        """Break off the connection: nats-py would close it, and wait 30 s for a frozen server to close it, too."""
        if (writer := getattr(self._transport, "_io_writer", None)) is not None and not self.is_reconnecting:
            writer.transport.abort()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        if _NOT_PERMITTED in err_msg.lower():
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(Error(f"nats: {err_msg}"))


def heed_cancellation() -> None:
    """Raise the CancelledError that this task was to have.

    Python 3.11's wait_for, by which nats-py connects and asks, may drop one that comes with an answer.
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError


async def _end_if_cancelled(client: Client) -> None:
    try:
        heed_cancellation()
    except asyncio.CancelledError:
        await client.close()
        raise


def _said(error: Exception) -> str:
    """An error in words, with what helps."""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return f"{said}{_STRANGER if _NOT_LET_IN in said.lower() else ''}"


async def connect(
    home: FleetHome,
    role: MemberRole,
    *,
    context: ssl.SSLContext | None = None,
    lost: Notified = _nobody,
    found: Notified = _nobody,
) -> Client:
    """A connection as this box in a role, which is made anew for as long as it is wanted.

    It waits until a broker is there. ``lost``, ``found``: called when it breaks, and when it is there again.
    ``context``: of ``tls.client_context``, for who has it renewed. LmxdError ``config`` if there is no certificate.
    """
    logging.getLogger("asyncio").addFilter(_QUIET)
    settings, client = home.settings, LastingClient()
    told: set[str] = set()

    async def broken() -> None:
        if client.is_closed:
            return  # nobody wants it any more
        log.warning("NATS is lost; what is known of the fleet grows old")
        await lost()

    async def mended() -> None:
        log.info("NATS is there again")
        told.clear()
        await found()

    async def failed(error: Exception) -> None:
        if client.is_closed:
            return  # TLS may complain of how its connection ends
        news = (why := _said(error)) not in told  # it is tried again each second: one line is enough
        where = ", ".join(settings.brokers)
        log.log(logging.WARNING if news else logging.DEBUG, "NATS at %s is tried again: %s", where, why)
        told.add(why)

    await client.connect(
        list(settings.brokers),
        name=f"{role} {settings.node}",
        tls=context or client_context(home, role),
        tls_hostname=any_host(settings.fleet, MemberRole.BROKER),
        inbox_prefix=home.member(role).inbox,
        ping_interval=_PING,
        max_outstanding_pings=2,
        connect_timeout=_PING,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_PAUSE,
        error_cb=failed,
        disconnected_cb=broken,
        reconnected_cb=mended,
    )
    await _end_if_cancelled(client)
    return client
