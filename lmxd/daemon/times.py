"""Learned times on disk: written a little after they changed, together, so that no request waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from lmxd.store.rows import TimeRow

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon

_PAUSE: Final = 2.0
"""Seconds after an event until what was learned since is written."""


class Times:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._written: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def restore(self, rows: Iterable[TimeRow]) -> Mapping[str, Mapping[str, float]]:
        """What was learned, as the core knows it: by name and profile."""
        self._written = {row.id: row.seconds for row in rows}
        means: dict[str, dict[str, float]] = {}
        for id, seconds in self._written.items():
            what, _, profile = id.partition(" ")
            means.setdefault(what, {})[profile] = seconds
        return means

    def rows(self) -> list[TimeRow]:
        means = self._daemon.admission.state.expectations.means()
        return [
            TimeRow(id=f"{what} {profile}", seconds=seconds)
            for what, learned in means.items()
            for profile, seconds in learned.items()
        ]

    def write_soon(self) -> None:
        """Something happened, from which something may have been learned."""
        if self._timer is None and self._daemon.outbox.writer is not None:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self.write)

    def write(self) -> None:
        """What is not what it was when it was last written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changed = [row for row in self.rows() if self._written.get(row.id) != row.seconds]
        if changed:
            self._written |= {row.id: row.seconds for row in changed}
            self._daemon.outbox.put(changed, ())
