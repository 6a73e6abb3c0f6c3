"""The authority's word on former members, to the doors of nodes: a certificate alone would let them in to its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

import msgspec
from nats.errors import Error

from lmxd.fleet import bus
from lmxd.fleet.authority.roll import Roll
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.names import REMOVED
from lmxd.pausing import pause

_AGAIN: Final = 10.0
"""Seconds between two times that it is told, for nodes that have come since."""


class Removals:
    """Tells which keys count no more, over NATS."""

    def __init__(self, home: FleetHome, roll: Roll) -> None:
        self._home, self._roll = home, roll
        self._hint = asyncio.Event()

    def hint(self) -> None:
        """The roll has just been changed."""
        self._hint.set()

    async def tell(self) -> None:
        """Tell it at once when it changes, and now and then, until cancelled."""
        client = await bus.connect(self._home, MemberRole.BROKER)
        try:
            while True:
                self._hint.clear()
                if client.is_connected:
                    with suppress(Error, OSError):
                        await client.publish(REMOVED, msgspec.json.encode(self._roll.removed(time.time())))
                await pause(self._hint, _AGAIN)
        finally:
            await client.close()
