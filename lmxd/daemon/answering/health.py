"""Whether the daemon can do its work: the ledger is written, the devices answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lmxd.config.section import GIB
from lmxd.core.books.state import State
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.errors import LmxdError

STALE: Final = 5.0
"""Seconds after which what waits to be written is held to be stuck."""


class Health:
    """``place``: the directory of the ledger. ``hanging``: whether a look at the devices has not come back."""

    def __init__(self, state: State, outbox: Outbox, place: Path, hanging: Callable[[], bool]) -> None:
        self._state = state
        self._outbox = outbox
        self._place = place
        self._hanging = hanging

    def faults(self) -> Iterator[str]:
        """What is wrong just now, in sentences. Because of it, nothing new may be promised."""
        writer = self._outbox.writer
        if self.unwritable is not None:
            yield f"the ledger cannot be written: {self.unwritable}"
        if writer is not None and writer.damaged is not None:
            yield f"the ledger was damaged: {writer.damaged}"
        if self._hanging():
            yield "the devices do not answer"

    @property
    def unwritable(self) -> str | None:
        """Why nothing gets onto the disk, if that is so."""
        writer = self._outbox.writer
        if writer is None or writer.failing is not None:
            return None if writer is None else writer.failing
        waits = 0.0 if writer.pending_since is None else time.monotonic() - writer.pending_since
        return f"nothing was written for {waits:.0f} s" if waits > STALE else None

    def require_ledger(self) -> None:
        """Whoever asked now would wait for a disk, not for room: LmxdError."""
        if why := self.unwritable:
            remedy = f"make room in {self._place}, or mend the disk"
            raise LmxdError("ledger_unwritable", f"the ledger cannot be written: {why}", remedy)

    @property
    def fresh(self) -> bool:
        """Whether devices are measured and the ledger is written as they should be."""
        return self.unwritable is None and not self._hanging()

    def summary(self) -> str:
        """One line for the service manager."""
        state = self._state
        books = ", ".join(
            f"{(a.charged + a.reclaiming) / GIB:.1f}/{a.ceiling / GIB:.1f} GiB on {a.device}"
            for a in state.ledger.accounts.values()
        )
        faults = "".join(f"; {fault}" for fault in self.faults())
        return f"{len(state.instances)} running, {len(state.queue)} queued, {books or 'no device'}{faults}"
