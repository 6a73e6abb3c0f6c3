"""What is to be expected, learned from what happened: how long models load, are held, and stay unasked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_NEWEST: Final = 0.3
"""How much of a mean the newest observation makes up."""
_USUAL_GAP: Final = 300.0
_LOAD_RATE: Final = 4 * 2**30
"""Bytes per second from a page cache, until a profile's own launches are known."""
GOING: Final = 1.0
"""Seconds from the order to stop until a device shows the bytes free."""


@dataclass(slots=True)
class Expectations:
    """Moving means by profile, in seconds."""

    launches: dict[str, float] = field(default_factory=dict)
    holds: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)

    def asked(self, profile: str, at: float) -> None:
        if profile in self.asked_at:
            _mix(self.gaps, profile, at - self.asked_at[profile])
        self.asked_at[profile] = at

    def launched(self, profile: str, seconds: float) -> None:
        _mix(self.launches, profile, seconds)

    def held(self, profile: str, seconds: float) -> None:
        _mix(self.holds, profile, seconds)

    def launch(self, profile: str, size: int) -> float:
        """Seconds that an instance of so many bytes takes to load."""
        return self.launches.get(profile, 1.0 + size / _LOAD_RATE)

    def reuse(self, profile: str, idle: float) -> float:
        """How likely it is, in (0, 1], that who asked for a profile at its usual pace still comes back for it."""
        gap = self.gaps.get(profile, _USUAL_GAP)
        return 1.0 / (1.0 + idle / max(gap, 1.0))


def _mix(means: dict[str, float], profile: str, new: float) -> None:
    old = means.get(profile, new)
    means[profile] = old + _NEWEST * (new - old)
