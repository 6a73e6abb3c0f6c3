"""Learned means on disk: written a little after they changed, together, so that no request waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from lmxd.core.books.expectations import Expectations
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.store.rows import MeanRow

_PAUSE: Final = 2.0
"""Seconds after an event until what was learned since is written."""


class Means:
    """The learned means as rows, and the timer until they are written next."""

    def __init__(self, learned: Expectations, outbox: Outbox) -> None:
        self._learned = learned
        self._outbox = outbox
        self._written: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def restore(self, rows: Iterable[MeanRow]) -> Mapping[str, Mapping[str, float]]:
        """The learned means as the core knows them: by name and profile."""
        self._written = {row.id: row.mean for row in rows}
        means: dict[str, dict[str, float]] = {}
        for id, mean in self._written.items():
            what, _, profile = id.partition(" ")
            means.setdefault(what, {})[profile] = mean
        return means

    def rows(self) -> list[MeanRow]:
        means = self._learned.means()
        return [
            MeanRow(id=f"{what} {profile}", mean=mean)
            for what, learned in means.items()
            for profile, mean in learned.items()
        ]

    def write_soon(self) -> None:
        """Something happened, from which something may have been learned."""
        if self._timer is None and self._outbox.writer is not None:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self.write)

    def write(self) -> None:
        """Write the means that changed since they were last written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changed = [row for row in self.rows() if self._written.get(row.id) != row.mean]
        if changed:
            self._written |= {row.id: row.mean for row in changed}
            self._outbox.put(changed, ())
