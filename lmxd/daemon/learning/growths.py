"""The growths of the last hour, by model."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from lmxd.core.decisions import Decision, MoveLease
from lmxd.core.moves import Move

_HOUR: Final = 3600.0
_MOST: Final = 100_000
"""Growths that are remembered: more than a machine can have in an hour."""


class Growths:
    """Counts leases that have grown within the last hour, or since the daemon was started."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._grown: deque[tuple[float, str]] = deque(maxlen=_MOST)

    def observe(self, decision: Decision) -> None:
        """Count one decision, if it is a growth."""
        if not isinstance(decision, MoveLease) or decision.move is not Move.GROWN:
            return
        if decision.widened or decision.instance != decision.before:
            self._grown.append((self._clock(), decision.profile))

    def per_hour(self) -> Counter[str]:
        """The number of growths by model."""
        while self._grown and self._clock() - self._grown[0][0] >= _HOUR:
            self._grown.popleft()
        return Counter(profile for _, profile in self._grown)
