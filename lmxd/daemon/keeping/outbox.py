"""Decisions on their way: carried out in the order in which they were made, each after its rows are written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmxd.core.decisions import Decision, EndLease
from lmxd.core.reasons import EndReason
from lmxd.store.rows import Change
from lmxd.store.writer import Writer

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Batch:
    """``written``: when it is in the ledger; None if nothing of it needs to be. ``carried``: who waits for its turn."""

    written: asyncio.Future[None] | None
    decisions: Sequence[Decision]
    carried: asyncio.Future[None] | None = None

    @property
    def due(self) -> bool:
        return self.written is None or self.written.done()


def _is_waited_for(decision: Decision) -> bool:
    """Whether anything follows from a decision that somebody may wait for. A released lease has no user any more."""
    return not (isinstance(decision, EndLease) and decision.reason is EndReason.RELEASED)


class Outbox:
    """A queue of decisions, each held back until its rows are on disk."""

    def __init__(self, perform: Callable[[Decision], None]) -> None:
        self._perform = perform
        self._waiting: deque[_Batch] = deque()
        self.writer: Writer | None = None
        """None before the ledger is restored: nothing can have been promised by then."""
        self._held = False

    def hold(self) -> None:
        """Carry nothing out until ``let_go``."""
        self._held = True

    def let_go(self) -> None:
        self._held = False
        self._flush()

    def put(self, changes: Sequence[Change], decisions: Sequence[Decision]) -> None:
        """Write the changes down, then carry the decisions out; at once, if there is nothing to be waited for."""
        written = None
        if changes and self.writer is not None:
            written = self.writer.write(changes, soon=not decisions or any(map(_is_waited_for, decisions)))
        self._waiting.append(_Batch(written, decisions))
        if written is not None:
            written.add_done_callback(self._flush)
        self._flush()

    async def settled(self) -> None:
        """Returns when everything so far is written and carried out: then it may be acknowledged."""
        if self._waiting:
            if self.writer is not None:
                self.writer.hurry()
            last = self._waiting[-1]
            last.carried = last.carried or asyncio.get_running_loop().create_future()
            await asyncio.shield(last.carried)

    def abandon(self) -> None:
        """Carry out what waits for a disk that will not be waited for: all is about to end."""
        self.writer, self._held = None, False
        for batch in self._waiting:
            batch.written = None
        self._flush()

    def _carry_out(self, decision: Decision) -> None:
        """Carry one decision out. A fault in it must not keep the others from their turn."""
        try:
            self._perform(decision)
        except Exception:
            log.exception("%s was not carried out", decision)

    def _flush(self, _: object = None) -> None:
        while not self._held and self._waiting and self._waiting[0].due:
            batch = self._waiting.popleft()
            for decision in batch.decisions:
                self._carry_out(decision)
            if batch.carried is not None:
                batch.carried.set_result(None)
