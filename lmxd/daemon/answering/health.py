"""Health: whether the ledger is being written, and whether the devices answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lmxd.config.section import GIB
from lmxd.core.books.state import State
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.pulse import Pulse
from lmxd.errors import LmxdError

STALE: Final = 5.0
"""Seconds without a write, while rows wait for it, after which the disk counts as stuck. A commit takes milliseconds.
"""


class Health:
    """Tells whether the daemon can do its work.

    ``place``: the directory of the ledger. ``hanging``: whether a look at the devices has not come back. ``pulse``: of
    the loop.
    """

    def __init__(self, state: State, outbox: Outbox, place: Path, hanging: Callable[[], bool], pulse: Pulse) -> None:
        self._state = state
        self._outbox = outbox
        self._place = place
        self._hanging = hanging
        self._pulse = pulse

    def warnings(self) -> Iterator[str]:
        """One sentence for each fault, and for each thing that went wrong lately."""
        yield from self.faults()
        if lag := self._pulse.lag:
            yield f"within the last minute the loop was busy for {lag:.1f} s, and answered nobody: see the log"

    def faults(self) -> Iterator[str]:
        """One sentence for each present fault. While there is one, nothing new may be promised."""
        writer = self._outbox.writer
        if self.unwritable is not None:
            yield f"the ledger cannot be written: {self.unwritable}"
        if writer is not None and writer.damaged is not None:
            yield f"the ledger was damaged: {writer.damaged}"
        if self._hanging():
            yield "the devices do not answer"

    @property
    def unwritable(self) -> str | None:
        """The reason why nothing is written to disk; None if writing works."""
        writer = self._outbox.writer
        if writer is None or writer.failing is not None:
            return None if writer is None else writer.failing
        waits = 0.0 if writer.pending_since is None else time.monotonic() - writer.pending_since
        return f"nothing was written for {waits:.0f} s" if waits > STALE else None

    def require_ledger(self) -> None:
        """LmxdError ``ledger_unwritable`` if nothing is written to disk: a grant would wait for the disk."""
        if why := self.unwritable:
            remedy = f"make room in {self._place}, or mend the disk"
            raise LmxdError("ledger_unwritable", f"the ledger cannot be written: {why}", remedy)

    @property
    def fresh(self) -> bool:
        """Whether devices are measured, and the ledger is written."""
        return self.unwritable is None and not self._hanging()

    def summary(self) -> str:
        """One line for the service manager."""
        state = self._state
        books = ", ".join(
            f"{(a.charged + a.reclaiming) / GIB:.1f}/{a.ceiling / GIB:.1f} GiB on {a.name}"
            for a in state.ledger.accounts.values()
            if a.pool is None  # the bytes of a view are those of its pool
        )
        faults = "".join(f"; {fault}" for fault in self.faults())
        return f"{len(state.instances)} running, {len(state.queue)} queued, {books or 'no device'}{faults}"
