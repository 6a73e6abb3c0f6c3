"""The clock of a box, as its heartbeats and its door have it."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since the box was started. It never steps, and goes on while the box is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
