"""Model files are read into the page cache while their bytes are awaited, so that a cold load is a warm one.

That RAM is promised to nobody and counted in no ledger: the kernel takes it back from a file whenever it is wanted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import RAM_ID
from lmxd.catalog.model_files import parts
from lmxd.core.books.state import State
from lmxd.core.words import InstanceId
from lmxd.daemon.launching.launches import Launches
from lmxd.devices import page_cache
from lmxd.errors import LmxdError

log = logging.getLogger(__name__)

STEP: Final = 64 * 2**20
"""Bytes between two looks at who still waits."""
_FRONT: Final = 16
"""Requests in front of the queue that are looked at: the order of those behind will change."""


class ReadAhead:
    """Reads one model file after the other, in a thread; of each as much as there is room for.

    ``room``: bytes of RAM that files may have, those that were read among them.
    """

    def __init__(
        self,
        bring_in: Callable[[Path, int, int], int] = page_cache.bring_in,
        room: Callable[[], int] = page_cache.room,
    ) -> None:
        self._bring_in = bring_in
        self._room = room
        self._wanted: tuple[Path, ...] = ()
        self._promised = 0
        self._read: dict[Path, int] = {}
        self._whole: set[Path] = set()
        self.work: asyncio.Task[None] | None = None
        """The task that reads, or the last that did."""

    def look(self, state: State, launches: Launches, catalog: Catalog) -> None:
        """Look at who waits now, and read for them."""
        loading = {launched.instance for launched in launches.waiting()}
        self.want(awaited(state, launches, catalog), promised(state, loading))

    def want(self, files: Sequence[Path], promised: int = 0) -> None:
        """These are awaited, in this order; so many bytes of RAM are promised and may yet be taken."""
        self._wanted, self._promised = tuple(dict.fromkeys(files)), promised
        self._read = {path: self._read.get(path, 0) for path in self._wanted}
        self._whole &= self._read.keys()
        if self._next() is not None and (self.work is None or self.work.done()):
            self.work = asyncio.get_running_loop().create_task(self._keep_reading())

    def _next(self) -> Path | None:
        return next((path for path in self._wanted if path not in self._whole), None)

    async def _keep_reading(self) -> None:
        while (path := self._next()) is not None:
            before = sum(self._read[other] for other in self._wanted[: self._wanted.index(path) + 1])
            size = min(STEP, await asyncio.to_thread(self._room) - self._promised - before)
            if size <= 0:
                return  # it is looked at again when somebody is next said to wait
            done = await asyncio.to_thread(self._bring, path, self._read.get(path, 0), size)
            if path in self._read:
                self._read[path] += done
                if done < size:
                    self._whole.add(path)

    def _bring(self, path: Path, offset: int, size: int) -> int:
        try:
            return self._bring_in(path, offset, size)
        except OSError as error:
            log.info("%s is not read ahead: %s", path, error)
            return 0


def awaited(state: State, launches: Launches, catalog: Catalog) -> list[Path]:
    """The files of those that wait for their turn to load, then of those that wait for bytes, as they will load."""
    files: list[Path] = []
    for profile in dict.fromkeys(_profiles(state, launches)) if catalog.config.engine.read_ahead else ():
        with suppress(LmxdError):  # it is not there; its start will say so
            file = catalog.file(profile)
            files += [] if file is None else parts(file)
    return files


def _profiles(state: State, launches: Launches) -> Iterator[str]:
    yield from (launched.plan.profile for launched in launches.waiting())
    for ticket in state.queue.some(0, _FRONT):
        ask = ticket.ask
        sleeps = any(i.is_like(ask) for i in state.asleep.values())
        if not ask.external and ask.kind not in state.live_by_kind and not sleeps:  # else it was read
            yield ask.profile


def promised(state: State, waiting: Set[InstanceId]) -> int:
    """Bytes of RAM that instances may yet take, or have as pages of their files, which files must not squeeze out.

    Of those ``waiting`` for their turn to load, it is their files that are read.
    """
    accounts = state.ledger.accounts
    account = next((a for a in accounts.values() if state.ledger.views(a.device)), accounts.get(RAM_ID))
    others = [] if account is None else [r for name, r in account.reservations.items() if name not in waiting]
    return sum(max(0, r.charge - (r.visible or 0)) for r in others)
