"""How late a report is, though two boxes' clocks need not agree."""

from __future__ import annotations

from math import inf
from typing import Final

_WINDOW: Final = 60.0
"""Seconds after which a least delay is measured anew: by then two clocks have drifted by a few ms, or one stood still.
"""


class Delays:
    """The least difference between the times at which reports were heard and sent, of the last one to two minutes.

    A report with that difference is taken as fresh; what another has beyond it, it was delayed on its way.
    """

    def __init__(self) -> None:
        self._before, self._least, self._until = inf, inf, -inf

    def sent_at(self, sent: float, now: float) -> float:
        """The time, by the clock of ``now``, at which a report was sent that is heard ``now``. Never after ``now``."""
        if now >= self._until:
            self._before, self._least, self._until = self._least, inf, now + _WINDOW
        self._least = min(self._least, now - sent)
        return min(now, sent + min(self._least, self._before))
