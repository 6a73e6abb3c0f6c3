"""A bound for lines in the log that somebody else causes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

MOST: Final = 30
"""Lines for each key and window: enough to see what somebody tries."""
WINDOW: Final = 60.0
"""Seconds."""
_KEYS: Final = 1024
"""Keys that are told from each other. All further ones share a bound."""


class Throttle:
    """Lets a number of lines pass for each key and window of time, and counts the others.

    The clock is the caller's: seconds that never go back.
    """

    def __init__(self, most: int = MOST, window: float = WINDOW) -> None:
        self._most = most
        self._window = window
        self._began = float("-inf")
        self._seen: dict[Hashable, int] = {}

    def passes(self, key: Hashable, now: float) -> bool:
        """Whether a line about ``key`` may be written. The caller asks ``due`` first."""
        if not self._seen:
            self._began = now
        if key not in self._seen and len(self._seen) >= _KEYS:
            key = None
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= self._most

    def due(self, now: float) -> dict[Hashable, int]:
        """The number of lines that were left out in a window that is over, by key; nothing while it lasts.

        ``None`` is the key of those beyond the first thousand.
        """
        return self.end() if self._seen and now >= self._began + self._window else {}

    def end(self) -> dict[Hashable, int]:
        """End the window now. Returns the same."""
        left_out = {key: count - self._most for key, count in self._seen.items() if count > self._most}
        self._seen = {}
        return left_out

    @property
    def ends(self) -> float:
        """The time at which the present window is over."""
        return self._began + self._window
