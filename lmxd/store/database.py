"""The ledger on disk: one SQLite file, written by one thread, valid for one boot of the machine.

Rows survive the death of the process once ``apply`` has returned: the kernel has them. Rows that are to outlive the
boot survive a loss of power, too, once ``checkpoint`` has returned: commits wait for no disk (docs/adr/0012).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.store import schema
from lmxd.store.rows import (
    LASTING,
    ROWS,
    ArrivalRow,
    Change,
    CountRow,
    Gone,
    InstanceRow,
    LeaseRow,
    MeanRow,
    Saved,
    YieldRow,
)

log = logging.getLogger(__name__)

T = TypeVar("T", InstanceRow, LeaseRow, YieldRow, CountRow, ArrivalRow, MeanRow)
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = {kind: tuple(field.name for field in fields(kind)) for kind in ROWS}
_UPSERTS = {
    kind: f"INSERT INTO {kind.TABLE} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names if name != 'id')}"
    for kind, names in _COLUMNS.items()
}
_VALUES = {kind: attrgetter(*names) for kind, names in _COLUMNS.items()}
_DELETES = {kind: f"DELETE FROM {kind.TABLE} WHERE id = ?" for kind in ROWS}  # noqa: S608 (constants)
_SET_BOOT = "INSERT OR REPLACE INTO meta VALUES ('boot', ?)"
_PRIMARY = 0xFF
"""The low byte of an extended error code."""


class Damaged(Exception):
    """The database cannot be read any more. The message says how it shows."""


class Database:
    """The ledger's file. ``boot`` names the current boot: processes of rows of another one cannot live any more."""

    def __init__(self, path: Path, boot: str) -> None:
        """Open it, or make it. Raises Damaged; LmxdError if it is a newer lmxd's, or cannot be opened."""
        self.path = path
        self._boot = boot
        self.fresh = False
        """There was nothing yet."""
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        try:
            self._prepare(connection)
        except sqlite3.DatabaseError as error:
            connection.close()
            if is_damage(error):
                raise Damaged(str(error)) from error
            raise _unusable(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        found = schema.version(connection)
        if found > schema.VERSION:
            raise LmxdError(
                "config",
                f"{self.path} was written by a newer lmxd (schema {found}; this one knows {schema.VERSION})",
                "install that one again, or end its instances and move the file away",
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(str(verdict))
        self.fresh = found == 0
        if found < schema.VERSION:
            schema.migrate(connection)

    def load(self) -> Saved:
        """Load the rows of this boot. Raises Damaged."""
        try:
            known = self._connection.execute("SELECT value FROM meta WHERE id = 'boot'").fetchone()
            if known != (self._boot,):
                self._begin_boot()
            return Saved(
                instances=self._all(InstanceRow),
                leases=self._all(LeaseRow),
                yields=self._all(YieldRow),
                counts=self._all(CountRow),
                arrivals=self._all(ArrivalRow),
                means=self._all(MeanRow),
            )
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise Damaged(str(error)) from error
            raise _unusable(self.path, error) from error

    def _begin_boot(self) -> None:
        """Drop the rows of an earlier boot, but for the counts of ids and what was learned."""
        with self._transaction() as connection:
            for kind in ROWS:
                if kind not in LASTING:
                    connection.execute(f"DELETE FROM {kind.TABLE}")  # noqa: S608 (a constant)
            connection.execute(_SET_BOOT, (self._boot,))

    def _all(self, kind: type[T]) -> list[T]:
        names = _COLUMNS[kind]
        rows = self._connection.execute(f"SELECT {', '.join(names)} FROM {kind.TABLE}")  # noqa: S608 (constants)
        return [kind(**dict(zip(names, row, strict=True))) for row in rows]

    def apply(self, changes: Iterable[Change]) -> None:
        """All of them or none. Raises sqlite3.Error."""
        hit("commit_begin")
        with self._transaction() as connection:
            for change in changes:
                _execute(connection, change)
            hit("commit_end")
        hit("committed")

    def checkpoint(self) -> None:
        """Have all that was written so far on the disk itself: this waits for it. Raises sqlite3.Error.

        The log begins anew with a commit that waits for the disk, too: it is made here, so that nobody else's has to.
        """
        hit("checkpoint_begin")
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        with self._transaction() as connection:
            connection.execute(_SET_BOOT, (self._boot,))
        hit("checkpointed")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors roll back by themselves
                self._connection.execute("ROLLBACK")
            raise

    def begin_anew(self) -> Path:
        """Set the file aside, open an empty one in its place, and say where the old one is now."""
        self.close()
        aside = set_aside(self.path)
        self._connection = self._open()
        self._begin_boot()
        return aside

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()


def is_damage(error: sqlite3.Error) -> bool:
    """Returns whether it says that the file is broken, rather than that the disk is full or a lock is held."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _CORRUPT


def set_aside(path: Path) -> Path:
    """Keep a damaged database for whoever wants to know why, under a name that says when."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def _unusable(path: Path, error: Exception) -> LmxdError:
    reason = getattr(error, "strerror", None) or str(error)
    return LmxdError("config", f"{path}: {reason}", "see to the disk and the directory's owner")


def _execute(connection: sqlite3.Connection, change: Change) -> None:
    if isinstance(change, Gone):
        connection.execute(_DELETES[change.kind], (change.id,))
    else:
        connection.execute(_UPSERTS[type(change)], _VALUES[type(change)](change))
