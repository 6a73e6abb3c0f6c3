"""Connections that wait for the next request: to the instance of their lease, or to their node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class KeptConnections:
    """Connections that are used for no request, by the lease or the node that they lead to, at most ``most`` of each.

    An engine gives each open connection a thread, or counts it as work: none outlasts its lease.
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._kept: dict[str, list[asyncio.Transport]] = {}

    def put(self, to: str, transport: asyncio.Transport) -> None:
        kept = self._kept.setdefault(to, [])
        kept.append(transport)
        while len(kept) > self._most:
            kept.pop(0).abort()
        transport.set_protocol(_Waiting(transport, lambda: self._forget(to, transport)))

    def _forget(self, to: str, transport: asyncio.Transport) -> None:
        kept = self._kept.get(to, [])
        with contextlib.suppress(ValueError):
            kept.remove(transport)
        if not kept:
            self._kept.pop(to, None)

    def take(self, to: str) -> asyncio.Transport | None:
        """The connection that was used last, which is the caller's from now on; None if there is none."""
        while kept := self._kept.get(to):
            found = kept[-1]
            self._forget(to, found)
            if not found.is_closing():
                return found
        return None

    def close(self, to: str) -> None:
        """Close the connections of a lease that ends, or of a node that is gone."""
        for transport in self._kept.pop(to, ()):
            transport.abort()

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))


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
