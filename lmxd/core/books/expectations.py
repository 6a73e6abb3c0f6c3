"""Learned times: how long models load, how long leases are held, how soon clients come back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from lmxd.core.words import BEGUN

_NEWEST: Final = 0.3
"""Weight of the newest observation in a mean: after three, two thirds of the mean are of these three."""
_USUAL_HOLD: Final = 10.0
"""Seconds that a lease is expected to last before any has ended: between a gateway's request and an agent's session."""
_USUAL_GAP: Final = 300.0
"""Seconds between two requests for a model, until a second one was made: the default ``idle_timeout``."""
_PATIENCE: Final = 0.05
"""The part of a load that may be spent on waiting for a client: 5 s of loading are worth 0.25 s."""
_LOAD_RATE: Final = 4 * 2**30
"""Bytes per second from the page cache, until a large model was loaded here."""
_LARGE: Final = 2 * 2**30
"""Bytes from which a load tells the rate of this machine. Below, the start of the process is most of the time."""
_WAKE_BEGUN: Final = 0.5
_WAKE_RATE: Final = 8 * 2**30
"""Seconds, and bytes per second from RAM to a card, that a wake takes until a profile's own wakes are known."""
_ANY: Final = ""
"""Key of the mean over all profiles."""
_GOING: Final = 1.0
"""Seconds from the order to stop until the device shows the bytes free, until a profile's own ends are known."""
PROMPT: Final = 0.25
"""Seconds within which a client counts as coming back at once. A loop of requests does, a person does not."""


@dataclass(slots=True)
class Expectations:
    """Moving means by profile, in seconds; ``prompt`` is the part of the leases whose client came back at once."""

    launches: dict[str, float] = field(default_factory=dict)
    wakes: dict[str, float] = field(default_factory=dict)
    holds: dict[str, float] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    goings: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Bytes per second."""
    prompt: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    left_at: dict[str, list[float]] = field(default_factory=dict)
    """The times at which leases ended, for which no request has come yet."""

    def means(self) -> dict[str, dict[str, float]]:
        """The means by name, as they are written to disk: all fields but the times of single events, ``…_at``."""
        return {mean.name: getattr(self, mean.name) for mean in fields(self) if not mean.name.endswith("_at")}

    def asked(self, profile: str, at: float) -> None:
        if profile in self.asked_at:
            _mix(self.gaps, profile, at - self.asked_at[profile])
        self.asked_at[profile] = at
        if left := self.left_at.get(profile):
            _mix(self.prompt, profile, 1.0 if at - left.pop(0) <= PROMPT else 0.0)

    def left(self, profile: str, at: float) -> None:
        """Note the end of a lease. An earlier one without a request within ``PROMPT`` counts as not coming back."""
        left = self.left_at.setdefault(profile, [])
        while left and at - left[0] > PROMPT:
            left.pop(0)
            _mix(self.prompt, profile, 0.0)
        left.append(at)

    def gone(self, profile: str, seconds: float) -> None:
        """Note the seconds from the order to stop until the bytes were free."""
        _mix(self.goings, profile, seconds)

    def hold(self, profile: str, most: float) -> float:
        """Seconds that a lease is expected to last: the profile's mean, else that of all profiles, at most ``most``."""
        return self.holds.get(profile, min(self.holds.get(_ANY, _USUAL_HOLD), most))

    def held_for(self, profile: str) -> float:
        """Seconds that a lease usually lasts; 0 while that is not known."""
        return self.holds.get(profile, 0.0)

    def going(self, profile: str) -> float:
        return self.goings.get(profile, _GOING)

    def is_prompt(self, profile: str) -> bool:
        """Whether clients of the profile mostly come back at once."""
        return self.prompt.get(profile, 0.0) >= 0.5

    def patience(self, profile: str, size: int) -> float:
        """Seconds to wait for the last client before an eviction: 5 % of a load, at most ``PROMPT``."""
        if not self.is_prompt(profile):
            return 0.0
        return min(PROMPT, _PATIENCE * self.launch(profile, size))

    def launched(self, profile: str, seconds: float, size: int, begun: float = BEGUN) -> None:
        """Note the seconds of a load. A large model's also tells how fast others load, but of a slow engine."""
        _mix(self.launches, profile, seconds)
        if begun <= BEGUN and size >= _LARGE and seconds > 2 * BEGUN:
            _mix(self.rates, _ANY, size / (seconds - BEGUN))

    def woke(self, profile: str, seconds: float) -> None:
        """Note the seconds of a wake."""
        _mix(self.wakes, profile, seconds)

    def wake(self, profile: str, size: int) -> float:
        """Seconds that a sleeping instance of ``size`` bytes is expected to take to wake."""
        return self.wakes.get(profile, _WAKE_BEGUN + size / _WAKE_RATE)

    def held(self, profile: str, seconds: float) -> None:
        _mix(self.holds, profile, seconds)
        _mix(self.holds, _ANY, seconds)

    def launch(self, profile: str, size: int, begun: float = BEGUN) -> float:
        """Seconds that an instance of ``size`` bytes is expected to take to load. ``begun``: as of an Ask."""
        known = self.launches.get(profile)
        return begun + size / self.rates.get(_ANY, _LOAD_RATE) if known is None else known

    def reuse(self, profile: str, idle: float) -> float:
        """The likelihood, in (0, 1], that the profile is wanted again after ``idle`` seconds.

        With a usual gap of 300 s it is 1 at once, 1/2 after 300 s and 1/4 after 900 s.
        """
        gap = self.gaps.get(profile, _USUAL_GAP)
        return 1.0 / (1.0 + idle / max(gap, 1.0))


def _mix(means: dict[str, float], profile: str, new: float) -> None:
    old = means.get(profile, new)
    means[profile] = old + _NEWEST * (new - old)
