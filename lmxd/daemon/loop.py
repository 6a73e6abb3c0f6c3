"""The loop: one event at a time into the core, its decisions written down and carried out. The only writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from lmxd.core.admission import Admission
from lmxd.core.books.step import Touched
from lmxd.core.decisions import Decision
from lmxd.core.events import Event, TimePassed
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.store.rows import Change


class Loop:
    """Hands one event at a time to the core, and its decisions to the outbox.

    ``changes`` makes the rows of an event. ``heard`` is told of each event after it was taken in, ``decided`` of each
    decision before it is written down.
    """

    def __init__(
        self,
        admission: Admission,
        outbox: Outbox,
        changes: Callable[[Event, Touched, Sequence[Decision]], Sequence[Change]],
        decided: Callable[[Decision], None],
        heard: Callable[[Event], None],
    ) -> None:
        self._admission = admission
        self._outbox = outbox
        self._changes = changes
        self._decided = decided
        self._heard = heard
        self._timer: asyncio.TimerHandle | None = None
        self._handling = False

    def handle(self, event: Event) -> None:
        """Take in a fact; what the core decides is written down and carried out. Never awaits, never re-enters."""
        assert not self._handling, "a decision was carried out by reporting an event on the spot"
        self._handling = True
        try:
            touched, decisions = self._admission.handle(event)
            for decision in decisions:
                self._decided(decision)
            self._outbox.put(self._changes(event, touched, decisions), decisions)
        finally:
            self._handling = False
        self._schedule()
        self._heard(event)

    @property
    def asleep(self) -> bool:
        """Returns whether nothing will be due if nothing happens."""
        return self._timer is None

    def _schedule(self) -> None:
        """See to it that time passes for the core when something of its is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._admission.next_deadline()
        if due is not None:
            later = asyncio.get_running_loop().call_later
            self._timer = later(max(0.0, due - time.monotonic()), lambda: self.handle(TimePassed(at=time.monotonic())))
