"""``Admission.handle``: one event in, decisions out. The daemon's only door to the core."""

from __future__ import annotations

from lmxd.core import policy
from lmxd.core.decisions import Decision
from lmxd.core.events import Event
from lmxd.core.record import record
from lmxd.core.state import State


class Admission:
    """Records one fact, then derives what follows from it."""

    def __init__(self) -> None:
        self.state = State()

    def handle(self, event: Event) -> list[Decision]:
        """Take in a fact; returns what is to be done, in this order.

        Events come in the order in which they happened; one that is late in time is
        taken as of now.
        """
        record(self.state, event)
        policy.derive(self.state)
        decisions, self.state.outbox = self.state.outbox, []
        return decisions

    def next_deadline(self) -> float | None:
        """When to send ``TimePassed`` if nothing else happens before; None for never."""
        return policy.next_deadline(self.state)
