"""The one thread that writes. Rows that arrive while a commit is under way go into the next one, together.

It syncs to disk when nobody waits for it, or before the log grows long.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from lmxd.store.database import Database, is_damage
from lmxd.store.rows import LASTING, Change

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.05
_LAST_PAUSE = 2.0
"""Seconds before what could not be written is tried again: doubled each time."""
_IDLE = 0.5
"""Seconds without anything to write after which what is to outlive the boot is checkpointed."""
_LATEST = 10.0
MOST_COMMITS = 1000
"""Seconds since that was written, and commits of any kind, after which it is done though somebody waits."""

_LATE = 0.005
"""Seconds for which what nobody waits for is kept back: one commit serves it and what comes next."""

_Order: TypeAlias = tuple[Sequence[Change], asyncio.Future[None]]


class Writer:
    """Writes rows in a thread of its own. ``everything`` makes all rows anew, if the database is damaged while in use.

    Rows that cannot be written are tried again for as long as it takes: their waiters wait.
    """

    def __init__(self, database: Database, everything: Callable[[], Sequence[Change]], idle: float = _IDLE) -> None:
        self._database = database
        self._everything = everything
        self._idle = idle
        self._commits = 0
        self._lasting_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[list[_Order] | None] = queue.SimpleQueue()
        self._gathered: list[_Order] = []
        """Orders that were not handed to the thread yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="lmxd-store", daemon=True)
        self._thread.start()
        self.failing: str | None = None
        """The reason why nothing can be written just now, if that is so."""
        self.damaged: str | None = None
        """The path of a database that was found damaged while it was in use."""
        self.pending_since: float | None = None
        """Since when something waits to be written, on the monotonic clock."""
        self._pending = 0

    def write(self, changes: Sequence[Change], *, soon: bool = True) -> asyncio.Future[None]:
        """Resolves when they are written, after all before them. Not to be cancelled. ``soon``: somebody waits."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._pending += 1
        if self.pending_since is None:
            self.pending_since = time.monotonic()
        self._gathered.append((changes, done))
        if soon:
            self.hurry()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LATE, self.hurry)
        return done

    def hurry(self) -> None:
        """Keep nothing back any longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            self._orders.put(self._gathered)
            self._gathered = []

    async def close(self, patience: float = 5.0) -> None:
        """Write what is still to be written, but do not wait for a dead disk longer than that."""
        self.hurry()
        self._orders.put(None)
        await asyncio.to_thread(self._thread.join, patience)

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._write([change for changes, _ in batch for change in changes])
            self._tell(self._done, [done for _, done in batch])
        self._database.close()

    def _next(self) -> list[_Order] | None:
        """All that waits; nothing, if it is time for a checkpoint; None at the end."""
        since = self._lasting_since
        if self._commits >= MOST_COMMITS or (since is not None and time.monotonic() - since > _LATEST):
            return []
        try:
            first = self._orders.get(timeout=None if since is None else self._idle)
        except queue.Empty:
            return []
        if first is None:
            return None
        batch = first
        while not self._orders.empty():
            orders = self._orders.get()
            if orders is None:
                self._orders.put(None)
                break
            batch += orders
        return batch

    def _write(self, changes: Sequence[Change]) -> None:
        """Write until it is done. Without changes it is a checkpoint."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._commit(changes) if changes else self._checkpoint()
                return
            except sqlite3.Error as error:
                if is_damage(error):
                    changes = [*self._begin_anew(error), *changes]
                else:
                    self._tell(self._failed, str(error))
            except OSError as error:
                self._tell(self._failed, str(error))
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def _commit(self, changes: Sequence[Change]) -> None:
        self._database.apply(changes)
        self._commits += 1
        if self._lasting_since is None and any(isinstance(change, LASTING) for change in changes):
            self._lasting_since = time.monotonic()

    def _checkpoint(self) -> None:
        self._database.checkpoint()
        self._commits, self._lasting_since = 0, None

    def _begin_anew(self, error: sqlite3.Error) -> Sequence[Change]:
        """The loop's thread says what there is; it knows all of it."""
        try:
            aside = self._database.begin_anew()
        except Exception as fault:  # nothing that a new file does not cure may end the only writer
            self._tell(self._failed, f"{error}; no new database: {fault}")
            return ()
        answer: queue.SimpleQueue[Sequence[Change]] = queue.SimpleQueue()
        self._tell(lambda _: answer.put(self._everything()), None)
        rows = answer.get()
        self._tell(self._was_damaged, f"{error}: it is now {aside}")
        return rows

    def _tell(self, what: Callable[..., None], about: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(what, about)

    # in the loop's thread

    def _done(self, futures: list[asyncio.Future[None]]) -> None:
        if self.failing is not None:
            log.warning("the ledger is written again")
        self.failing = None
        self._pending -= len(futures)
        self.pending_since = time.monotonic() if self._pending else None
        for future in futures:
            if not future.done():
                future.set_result(None)

    def _failed(self, why: str) -> None:
        if self.failing is None:
            log.error("the ledger cannot be written: %s: nothing is started or granted until it can", why)
        self.failing = why

    def _was_damaged(self, how: str) -> None:
        log.critical("the database was damaged (%s); all that is known was written to a new one", how)
        self.damaged = how
