"""The pulse of the loop: a beat that comes late tells that something kept the loop from everybody else's work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

LATE: Final = 2.0
"""Seconds by which a beat is late when something is wrong: a decision takes milliseconds, and so does every answer."""
_PERIOD: Final = 0.5
_REMEMBERED: Final = 60.0
"""Seconds for which a late beat is told."""

log = logging.getLogger(__name__)


class Pulse:
    """Beats twice a second, and remembers for a minute by how much a beat was late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, period: float = _PERIOD) -> None:
        self._clock = clock
        self._period = period
        self._late: dict[float, float] = {}
        """By the time of a beat that was late: by how many seconds."""

    async def keep(self) -> None:
        """Beat for as long as the daemon runs."""
        while True:
            due = self._clock() + self._period
            await asyncio.sleep(self._period)
            self._beat(self._clock(), due)

    def _beat(self, now: float, due: float) -> None:
        self._late = {at: late for at, late in self._late.items() if now - at < _REMEMBERED}
        if now - due > LATE:
            self._late[now] = now - due
            log.warning("the loop was busy for %.1f s: nobody was answered meanwhile", now - due)

    @property
    def lag(self) -> float:
        """The most seconds by which a beat of the last minute was late; 0 if none was late."""
        now = self._clock()
        return max((late for at, late in self._late.items() if now - at < _REMEMBERED), default=0.0)

    def steady_since(self, time: float) -> bool:
        """Whether no beat was late since then."""
        return all(at < time for at in self._late)
