"""A bound for lines in the log that somebody else causes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

MOST: Final = 30
"""Lines for each key and window: enough to see what somebody tries."""
WINDOW: Final = 60.0
"""Seconds."""
_KEYS: Final = 1024
"""Keys that are told from each other. All further ones share a bound."""
MOST_TOGETHER: Final = 300
"""Lines for all keys together: whoever has many names has no more than ten others."""


class Throttle:
    """Lets a number of lines pass for each key and window of time, and ``together`` for all; counts the others.

    The clock is the caller's: seconds that never go back.
    """

    def __init__(self, most: int = MOST, window: float = WINDOW, together: int = MOST_TOGETHER) -> None:
        self._most = most
        self._together = together
        self._passed = 0
        self._window = window
        self._began = float("-inf")
        self._left_out: dict[Hashable, int] = {}
        self._seen: dict[Hashable, int] = {}

    def passes(self, key: Hashable, now: float) -> bool:
        """Whether a line about ``key`` may be written. The caller asks ``due`` first."""
        if not self._seen:
            self._began = now
        if key not in self._seen and len(self._seen) >= _KEYS:
            key = None
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= self._most and self._passed < self._together:
            self._passed += 1
            return True
        if self._passed >= self._together:
            key = None
        self._left_out[key] = self._left_out.get(key, 0) + 1
        return False

    def due(self, now: float) -> dict[Hashable, int]:
        """The number of lines that were left out in a window that is over, by key; nothing while it lasts.

        ``None`` is the key of those beyond the first thousand, and of all once they are too many together.
        """
        return self.end() if self._seen and now >= self._began + self._window else {}

    def end(self) -> dict[Hashable, int]:
        """End the window now. Returns the same."""
        left_out = self._left_out
        self._seen, self._left_out, self._passed = {}, {}, 0
        return left_out

    @property
    def ends(self) -> float:
        """The time at which the present window is over."""
        return self._began + self._window


class ThrottledLines:
    """A throttle by the clock of this machine. ``tell`` hears of each key how many lines were left out, in time.

    That is when the window is over, by a timer where a loop runs, or when ``end`` is called.
    """

    def __init__(self, throttle: Throttle, tell: Callable[[Hashable, int], None]) -> None:
        self._throttle = throttle
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def passes(self, key: Hashable) -> bool:
        """Whether a line about ``key`` may be written."""
        now = time.monotonic()
        self._count(self._throttle.due(now))
        if self._throttle.passes(key, now):
            return True
        if self._timer is None:
            self._end_in(max(0.0, self._throttle.ends - now))
        return False

    def _end_in(self, seconds: float) -> None:
        import asyncio  # whoever serves has it; to others it is a lot of memory

        with contextlib.suppress(RuntimeError):  # no loop is running: it is told at the end
            self._timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """Tell what was left out until now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._count(self._throttle.end())

    def _count(self, left_out: dict[Hashable, int]) -> None:
        for key, count in left_out.items():
            self._tell(key, count)
