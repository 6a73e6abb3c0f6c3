"""``Admission.handle``: one event in, decisions out. The daemon's only door to the core."""

from __future__ import annotations

from typing import NamedTuple

from lmxd.core import policy
from lmxd.core.decisions import Decision
from lmxd.core.events import Event
from lmxd.core.record import record
from lmxd.core.state import State
from lmxd.core.touched import Touched


class Outcome(NamedTuple):
    """Of one event: what it touched, which is to be written down, and what is to be done then, in this order."""

    touched: Touched
    decisions: list[Decision]


class Admission:
    """Records one fact, then derives what follows from it."""

    def __init__(self) -> None:
        self.state = State()

    def handle(self, event: Event) -> Outcome:
        """Take in a fact.

        Events come in the order in which they happened; one that is late in time is
        taken as of now.
        """
        state = self.state
        record(state, event)
        policy.derive(state)
        outcome = Outcome(state.touched, state.outbox)
        state.touched, state.outbox = Touched(), []
        return outcome

    def next_deadline(self) -> float | None:
        """When to send ``TimePassed`` if nothing else happens before; None for never."""
        return policy.next_deadline(self.state)
