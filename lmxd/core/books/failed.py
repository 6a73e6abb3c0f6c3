"""Launches that failed, so that they are not repeated in a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from lmxd.core.words import Failure

_FIRST_BACK_OFF: Final = 5.0
"""Seconds before a launch that failed once is tried again, so that a broken model does not load in a loop."""
_LAST_BACK_OFF: Final = 600.0
"""The most seconds before a failed launch is tried again. They double with each failure in a row: 5, 10, 20 … 600."""
_MOST: Final = 1024
"""The most failed launches that are remembered: a client may ask for each context that there is."""
LaunchKey: TypeAlias = tuple[str, str, int]
"""An ``Ask.launch``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A launch that failed ``count`` times in a row, and is not tried again before ``until``."""

    failure: Failure
    count: int
    until: float


class FailedLaunches(dict[LaunchKey, Failed]):
    """The launches that failed lately. Beyond a bound, those that may be tried again first are forgotten."""

    def backing_off(self, launch: LaunchKey, now: float) -> Failed | None:
        """The failure because of which a launch is not tried now, if any."""
        failed = self.get(launch)
        return failed if failed is not None and now < failed.until else None

    def note(self, launch: LaunchKey, failure: Failure, now: float) -> Failed:
        """Note a failure."""
        count = self[launch].count + 1 if launch in self else 1
        until = now + min(_LAST_BACK_OFF, _FIRST_BACK_OFF * 2 ** (count - 1))
        self[launch] = Failed(failure=failure, count=count, until=until)
        while len(self) > _MOST:
            del self[min(self, key=lambda known: self[known].until)]
        return self[launch]
