"""NATS, by which the members of a fleet hear of each other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import nats
from nats.aio.client import Client

from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole, any_host
from lmxd.fleet.tls import client_context

log = logging.getLogger(__name__)
_PING: Final = 2
"""Seconds between two signs of life. A server that misses two of them is left for another."""
_PAUSE: Final = 1
"""Seconds between two tries to connect to the same server."""

Heard = Callable[[], Awaitable[None]]


async def _nobody() -> None:
    """Nobody wants to be told."""


async def connect(home: FleetHome, role: MemberRole, *, lost: Heard = _nobody, found: Heard = _nobody) -> Client:
    """A connection as this box in a role, which is made anew for as long as it is wanted.

    It waits until a broker is there. ``lost``, ``found``: called when it breaks, and when it is there again.
    LmxdError ``config`` if this box has no certificate of that role.
    """
    settings = home.settings

    async def broken() -> None:
        log.warning("NATS is lost; what is known of the fleet grows old")
        await lost()

    async def mended() -> None:
        log.info("NATS is there again")
        await found()

    async def failed(error: Exception) -> None:
        log.debug("NATS: %r", error)

    return await nats.connect(
        list(settings.brokers),
        name=f"{role} {settings.node}",
        tls=client_context(home, role),
        tls_hostname=any_host(settings.fleet, MemberRole.BROKER),
        inbox_prefix=inbox(role, settings.node),
        ping_interval=_PING,
        max_outstanding_pings=2,
        connect_timeout=_PING,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_PAUSE,
        error_cb=failed,
        disconnected_cb=broken,
        reconnected_cb=mended,
    )


def inbox(role: MemberRole, name: str) -> str:
    """What the subjects begin with on which a member hears answers: nobody else may listen there."""
    return f"_INBOX.{role}.{name}"
