"""A connection to the daemon for asyncio: lines out, lines in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from lmxd.rpc import framing


class Link(asyncio.Protocol):
    """One connection. Each line that comes is ``taken`` on the spot; ``lost`` is called at its end."""

    def __init__(self, taken: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._taken = taken
        self._lost = lost
        self._framer = framing.Framer(framing.MAX_ANSWER)
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no base class

    def data_received(self, data: bytes) -> None:
        self._framer.feed(data)
        try:
            while line := self._framer.take():
                self._taken(line)
        except (ValueError, framing.FrameTooLong):  # this is no lmxd
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set_result(None)
        self._lost()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def say(self, line: bytes) -> bool:
        """Send a line. Returns False if the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(line)
        return True

    def close(self) -> None:
        """End it once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    async def ended(self) -> None:
        """Returns when it has ended."""
        await asyncio.shield(self._ended)
