"""``Admission.handle`` is the daemon's only entry to the core: one event in, one ``Outcome`` out."""

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
    """The outcome of one event: the ids that it changed, and the decisions that follow.

    The daemon writes the rows of ``touched`` first. Then it carries out ``decisions``, in this order.
    """

    touched: Touched
    decisions: list[Decision]


class Admission:
    """The core as the daemon sees it: it records one fact, then derives what follows from it."""

    def __init__(self) -> None:
        self.state = State()
        self.scheduler = Scheduler()

    def handle(self, event: Event) -> Outcome:
        """Record one event, and derive decisions from it.

        Events come in the order in which they happened. If ``event.at`` is earlier than the event before it, the
        earlier event's time counts.
        """
        state = self.state
        record(state, event)
        derive(state, self.scheduler)
        return Outcome(state.step.touched, state.step.decisions)

    def next_deadline(self) -> float | None:
        """The time at which to send ``TimePassed`` if no event comes before; None if never."""
        return next_deadline(self.state)
