"""Connections to instances that wait for the next request of their lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class KeptConnections:
    """The connection of each lease that has one, by the lease's id, as long as it is used for no request.

    An engine gives each open connection a thread, or counts it as work: none outlasts its lease.
    """

    def __init__(self) -> None:
        self._kept: dict[str, asyncio.Transport] = {}

    def put(self, lease: str, transport: asyncio.Transport) -> None:
        self.close(lease)
        self._kept[lease] = transport
        transport.set_protocol(_Waiting(transport, lambda: self._kept.pop(lease, None)))

    def take(self, lease: str) -> asyncio.Transport | None:
        """The connection of a lease, which is the caller's from now on; None if there is none."""
        found = self._kept.pop(lease, None)
        return None if found is None or found.is_closing() else found

    def close(self, lease: str) -> None:
        """Close the connection of a lease that ends."""
        if (found := self._kept.pop(lease, None)) is not None:
            found.abort()

    def __len__(self) -> int:
        return len(self._kept)


class _Waiting(asyncio.Protocol):
    """A connection that nobody uses. Whatever its other end does on it is the end of it."""

    def __init__(self, transport: asyncio.Transport, gone: Callable[[], object]) -> None:
        self._transport = transport
        self._gone = gone

    def data_received(self, data: bytes) -> None:
        self._transport.abort()
        self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
