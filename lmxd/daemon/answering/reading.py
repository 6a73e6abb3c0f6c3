"""Model files are read, and dry runs made, in threads: of each user a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from lmxd.core.words import User
from lmxd.daemon.answering.together import Together
from lmxd.errors import LmxdError

_AT_ONCE: Final = 2
"""Readings of a user at once."""
_MOST: Final = 64
"""The most readings that wait of a user: as many as calls of its may be in flight."""
_THREADS: Final = 4
"""Their own, for slow files of some users are not to keep what else needs a thread."""


@dataclass(slots=True)
class Lane:
    """The readings of one user, which wait for one another."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    count: int = 0


class FileReading:
    """Does the long work that a user's call needs. It goes on if the call is withdrawn, and still counts."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "lmxd-files")
        self._together = Together()
        self._lanes: dict[User | None, Lane] = {}

    async def do(self, user: User | None, what: Hashable, work: Callable[[], object]) -> None:
        """Do ``work`` in a thread, once for all calls of a user that want the same. LmxdError ``too_many``.

        ``user``: None for the daemon itself.
        """
        await self._together.do((user, what), lambda: self._in_turn(user, work))

    async def _in_turn(self, user: User | None, work: Callable[[], object]) -> None:
        lane = self._lanes.setdefault(user, Lane())
        if lane.count >= _MOST:
            message = f"{_MOST} sizes of models are being looked up for this user already"
            raise LmxdError("too_many", message, "wait for one of them")
        lane.count += 1
        try:
            async with lane.turns:
                await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            lane.count -= 1
            if not lane.count:
                del self._lanes[user]
