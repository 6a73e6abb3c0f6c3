"""The tables, and how a database of an earlier lmxd becomes one of this. A migration, once released, never changes."""

from __future__ import annotations

import sqlite3
from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE meta (id TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE instances (
        id TEXT PRIMARY KEY, phase TEXT NOT NULL, ask TEXT NOT NULL, option TEXT NOT NULL, start TEXT,
        pid INTEGER, born INTEGER, started_at REAL NOT NULL, ready_at REAL, active_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE leases (
        id TEXT PRIMARY KEY, instance TEXT NOT NULL, uid INTEGER NOT NULL, pid INTEGER NOT NULL, hold TEXT NOT NULL,
        slots INTEGER NOT NULL, size INTEGER NOT NULL, priority INTEGER NOT NULL, granted_at REAL NOT NULL,
        ttl REAL, expires_at REAL
    ) STRICT;
    CREATE TABLE yields (
        id TEXT PRIMARY KEY, device TEXT NOT NULL, size INTEGER NOT NULL, foreign_before INTEGER NOT NULL,
        until REAL NOT NULL
    ) STRICT;
    CREATE TABLE counts (id TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
    """,
    """
    ALTER TABLE instances ADD COLUMN work REAL NOT NULL DEFAULT 0;
    ALTER TABLE instances ADD COLUMN prompted REAL NOT NULL DEFAULT 0;
    ALTER TABLE leases ADD COLUMN key TEXT;
    ALTER TABLE leases ADD COLUMN gids TEXT NOT NULL DEFAULT '[]';
    """,
    """
    ALTER TABLE leases ADD COLUMN user TEXT NOT NULL DEFAULT '';
    CREATE TABLE arrivals (id TEXT PRIMARY KEY, asked_at REAL NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE means (id TEXT PRIMARY KEY, mean REAL NOT NULL) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE leases ADD COLUMN share INTEGER NOT NULL DEFAULT 1;
    """,
    """
    ALTER TABLE leases ADD COLUMN digest TEXT;
    """,
    """
    ALTER TABLE leases ADD COLUMN parked TEXT;
    """,
    """
    UPDATE leases SET parked = json_remove(
        json_set(parked, '$.carries', json(iif(json_type(parked, '$.carry') = 'object',
                                               json_array(json_extract(parked, '$.carry')), '[]'))),
        '$.carry')
    WHERE parked IS NOT NULL;
    """,
)
"""By version, from 1: user_version of the database says how many were applied."""

VERSION: Final = len(MIGRATIONS)


def version(database: sqlite3.Connection) -> int:
    (found,) = database.execute("PRAGMA user_version").fetchone()
    return int(found)


def migrate(database: sqlite3.Connection) -> None:
    """Bring it up to VERSION, all or nothing."""
    statements = ";".join(MIGRATIONS[version(database) :])
    database.executescript(f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version = {VERSION}; COMMIT;")
