"""Turns to connect to a node: of many requests at once few agree on TLS, which takes milliseconds of both sides.

All others wait in a line, in which nobody loses time that is counted. Whose turn it is may find a connection that has
served another request meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from lmxd.errors import LmxdError

_AT_ONCE: Final = 8


class _Line:
    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(_AT_ONCE)
        self.failed: LmxdError | None = None


class ConnectTurns:
    """The lines before the doors of all nodes."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, node: str) -> AsyncIterator[None]:
        """A turn to connect. LmxdError: of whose turn came before, so that a line waits for a dead node but once."""
        line = self._lines.setdefault(node, _Line())
        before = line.failed
        async with line.turns:
            if line.failed is not None and line.failed is not before:
                raise line.failed.with_traceback(None)
            try:
                yield
            except LmxdError as error:
                line.failed = error
                raise
