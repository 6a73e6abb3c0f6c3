"""``Admission.handle``: one event in, decisions out. The daemon's only door to the core."""

from __future__ import annotations

from typing import NamedTuple

from lmxd.core.books.record import record
from lmxd.core.books.state import State
from lmxd.core.books.step import Touched
from lmxd.core.decisions import Decision
from lmxd.core.events import Event
from lmxd.core.policy.derive import derive, next_deadline
from lmxd.core.policy.serving import Scheduler


class Outcome(NamedTuple):
    """Of one event: what it touched, which is to be written down, and what is to be done then, in this order."""

    touched: Touched
    decisions: list[Decision]


class Admission:
    """Records one fact, then derives what follows from it."""

    def __init__(self) -> None:
        self.state = State()
        self.scheduler = Scheduler()

    def handle(self, event: Event) -> Outcome:
        """Take in a fact.

        Events come in the order in which they happened; one that is late in time is
        taken as of now.
        """
        state = self.state
        record(state, event)
        derive(state, self.scheduler)
        return Outcome(state.step.touched, state.step.decisions)

    def next_deadline(self) -> float | None:
        """When to send ``TimePassed`` if nothing else happens before; None for never."""
        return next_deadline(self.state)
