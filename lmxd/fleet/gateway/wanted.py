"""A client's request as a fleet sees it."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.fleet.choosing.prospects import Sought


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedAnswer:
    """One request. ``user``: whose key; ``wait``: the most seconds in queues; ``since``: when it came, monotonic."""

    sought: Sought
    user: str | None
    wait: float | None
    since: float

    def left(self, now: float) -> float | None:
        """Seconds that it may still wait."""
        return None if self.wait is None else max(0.0, self.wait - (now - self.since))
