"""A pause between attempts that grows."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST = 1.0
_LAST = 60.0
"""Seconds before the next attempt: doubled after each that fails, up to the second figure."""


@dataclass(slots=True)
class Backoff:
    """The time of the next attempt, and the pause after it if it fails as well."""

    at: float = 0.0
    pause: float = _FIRST

    def failed(self, now: float) -> None:
        """An attempt has failed."""
        self.at = now + self.pause
        self.pause = min(2 * self.pause, _LAST)

    def reset(self) -> None:
        """An attempt was of use: the next may be made at once."""
        self.at, self.pause = 0.0, _FIRST
