"""What is to be expected, learned from what happened: how long models load, are held, and stay unasked for."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

_NEWEST: Final = 0.3
"""How much of a mean the newest observation makes up."""
_USUAL_HOLD: Final = 10.0
"""Seconds that a lease lasts, until any has ended: between a request of the gateway and an agent's."""
_USUAL_GAP: Final = 300.0
_PATIENCE: Final = 0.05
"""The part of a load that may be spent on waiting for a prompt client rather than loading its model again."""
_LOAD_BEGUN: Final = 1.0
"""Seconds that a load takes whatever its size, until a profile's own launches are known."""
_LOAD_RATE: Final = 4 * 2**30
"""Bytes per second from a page cache, until a large model was loaded."""
_LARGE: Final = 2 * 2**30
"""Bytes from which a load says how fast this machine loads."""
_ANY: Final = ""
"""No profile: of all of them."""
_GOING: Final = 1.0
"""Seconds from the order to stop until a device shows the bytes free, until a profile's own ends are known."""
PROMPT: Final = 0.25
"""Seconds within which a client that goes on with the same model comes back: a loop of requests, not a person."""


@dataclass(slots=True)
class Expectations:
    """Moving means by profile, in seconds; ``prompt`` is the part of the times that somebody came back at once."""

    launches: dict[str, float] = field(default_factory=dict)
    holds: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    goings: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Bytes per second."""
    prompt: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    left_at: dict[str, list[float]] = field(default_factory=dict)
    """When leases on a profile ended for which nobody has come back yet."""

    def means(self) -> dict[str, dict[str, float]]:
        """By name: what outlives a restart, and so all but the dates, ``…_at``."""
        return {mean.name: getattr(self, mean.name) for mean in fields(self) if not mean.name.endswith("_at")}

    def asked(self, profile: str, at: float) -> None:
        if profile in self.asked_at:
            _mix(self.gaps, profile, at - self.asked_at[profile])
        self.asked_at[profile] = at
        if left := self.left_at.get(profile):
            _mix(self.prompt, profile, 1.0 if at - left.pop(0) <= PROMPT else 0.0)

    def left(self, profile: str, at: float) -> None:
        """A lease on it ended. Whoever has not come back since an earlier one does not do so at once."""
        left = self.left_at.setdefault(profile, [])
        while left and at - left[0] > PROMPT:
            left.pop(0)
            _mix(self.prompt, profile, 0.0)
        left.append(at)

    def gone(self, profile: str, seconds: float) -> None:
        """How long it took from the order to stop until its bytes were free."""
        _mix(self.goings, profile, seconds)

    def hold(self, profile: str, most: float) -> float:
        """Seconds that a lease on it is expected to last; of one that is not known yet, as long as others."""
        return self.holds.get(profile, min(self.holds.get(_ANY, _USUAL_HOLD), most))

    def held_for(self, profile: str) -> float:
        """Seconds that a lease on it usually lasts; none while that is not known."""
        return self.holds.get(profile, 0.0)

    def going(self, profile: str) -> float:
        return self.goings.get(profile, _GOING)

    def is_prompt(self, profile: str) -> bool:
        """Whether whoever had it mostly comes back at once."""
        return self.prompt.get(profile, 0.0) >= 0.5

    def patience(self, profile: str, size: int) -> float:
        """Seconds that it pays to wait for whoever had the last lease: a small part of a load, if they are prompt."""
        if not self.is_prompt(profile):
            return 0.0
        return min(PROMPT, _PATIENCE * self.launch(profile, size))

    def launched(self, profile: str, seconds: float, size: int) -> None:
        """An instance of so many bytes took so long to load: that says something of others, too, if it was large."""
        _mix(self.launches, profile, seconds)
        if size >= _LARGE and seconds > 2 * _LOAD_BEGUN:
            _mix(self.rates, _ANY, size / (seconds - _LOAD_BEGUN))

    def held(self, profile: str, seconds: float) -> None:
        _mix(self.holds, profile, seconds)
        _mix(self.holds, _ANY, seconds)

    def launch(self, profile: str, size: int) -> float:
        """Seconds that an instance of so many bytes takes to load."""
        known = self.launches.get(profile)
        return _LOAD_BEGUN + size / self.rates.get(_ANY, _LOAD_RATE) if known is None else known

    def reuse(self, profile: str, idle: float) -> float:
        """How likely it is, in (0, 1], that who asked for a profile at its usual pace still comes back for it."""
        gap = self.gaps.get(profile, _USUAL_GAP)
        return 1.0 / (1.0 + idle / max(gap, 1.0))


def _mix(means: dict[str, float], profile: str, new: float) -> None:
    old = means.get(profile, new)
    means[profile] = old + _NEWEST * (new - old)
