"""The ledger on disk: whole or not at all, of this boot only, and readable whichever lmxd wrote it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from waiting import until

from lmxd import failpoints
from lmxd.errors import LmxdError
from lmxd.store import schema
from lmxd.store.database import Damaged, Database, set_aside
from lmxd.store.rows import (
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
from lmxd.store.writer import Writer

INSTANCE = InstanceRow(
    id="m#1",
    phase="ready",
    ask="{}",
    option="{}",
    start="{}",
    pid=7,
    born=8,
    started_at=1.5,
    ready_at=2.5,
    active_at=3.5,
    work=4.0,
    prompted=5.0,
)
LEASE = LeaseRow(
    id="l-1",
    instance="m#1",
    uid=1000,
    pid=9,
    gids="[1, 2]",
    user="anna",
    hold="ttl",
    slots=1,
    share=True,
    size=2**40,
    priority=-1,
    granted_at=2.5,
    ttl=60.0,
    expires_at=62.5,
    key="k",
    digest="d",
    parked="{}",
)
YIELD = YieldRow(id="y-1", device="GPU-a", size=2**33, foreign_before=2**30, until=99.0)
COUNT = CountRow(id="instances m", count=1)
ARRIVAL = ArrivalRow(id="1000 k", asked_at=1.5)
MEAN = MeanRow(id="launches m", mean=17.5)
ALL = (INSTANCE, LEASE, YIELD, COUNT, ARRIVAL, MEAN)


def opened(path: Path, boot: str = "boot") -> Database:
    database = Database(path, boot)
    database.load()
    return database


def saved(path: Path, boot: str = "boot") -> Saved:
    with closing(Database(path, boot)) as database:
        return database.load()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(opened(path)) as database:
        database.apply(ALL)
        database.apply([replace(INSTANCE, phase="stopping"), Gone(LeaseRow, "l-1"), Gone(LeaseRow, "l-2")])
    assert {type(row) for row in ALL} == set(ROWS)
    assert saved(path) == Saved(
        instances=[replace(INSTANCE, phase="stopping")],
        yields=[YIELD],
        counts=[COUNT],
        arrivals=[ARRIVAL],
        means=[MEAN],
    )
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_commit_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(opened(path)) as database:
        with pytest.raises(sqlite3.IntegrityError):
            database.apply([*ALL, replace(INSTANCE, id="m#2", phase=None)])  # type: ignore[arg-type]
        failpoints.activate("commit_end:error")
        try:
            with pytest.raises(OSError, match="failpoint"):
                database.apply(ALL)
        finally:
            failpoints.activate("")
        assert database.load() == Saved()
        database.apply(ALL)
    assert saved(path).leases == [LEASE]


def test_another_boot_knows_only_which_ids_were_given_and_what_was_learned(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(opened(path)) as database:
        database.apply(ALL)
    assert saved(path, "another") == Saved(counts=[COUNT], means=[MEAN])
    assert saved(path) == Saved(counts=[COUNT], means=[MEAN]), "nor does anything come back"


def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """Written as lmxd wrote it then."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(f"BEGIN; {schema.MIGRATIONS[0]}; PRAGMA user_version = 1; COMMIT;")
        old.execute("INSERT INTO meta VALUES ('boot', 'boot')")
        old.execute("INSERT INTO instances VALUES ('m#1', 'ready', '{}', '{}', '{}', 7, 8, 1.5, 2.5, 3.5)")
        old.execute("INSERT INTO leases VALUES ('l-1', 'm#1', 1000, 9, 'ttl', 1, ?, -1, 2.5, 60, 62.5)", (2**40,))
        old.execute("INSERT INTO yields VALUES ('y-1', 'GPU-a', ?, ?, 99)", (2**33, 2**30))
        old.execute("INSERT INTO counts VALUES ('instances m', 1)")
    assert saved(path) == Saved(
        instances=[replace(INSTANCE, work=0.0, prompted=0.0)],
        leases=[replace(LEASE, gids="[]", user="", key=None, digest=None, parked=None)],
        yields=[YIELD],
        counts=[COUNT],
    )
    with closing(sqlite3.connect(path)) as now:
        assert schema.version(now) == schema.VERSION


@pytest.mark.parametrize(
    ("carry", "carries"),
    [
        ("null", "[]"),
        ('{"instance":"m#1","slot":0,"file":"x.bin"}', '[{"instance":"m#1","slot":0,"file":"x.bin"}]'),
    ],
)
def test_the_one_conversation_of_a_parked_lease_is_the_first_of_several_now(
    tmp_path: Path, carry: str, carries: str
) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(f"BEGIN; {';'.join(schema.MIGRATIONS[:6])}; PRAGMA user_version = 6; COMMIT;")
        old.execute("INSERT INTO meta VALUES ('boot', 'boot')")
        old.execute(
            "INSERT INTO leases (id, instance, uid, pid, hold, slots, size, priority, granted_at, parked)"
            " VALUES ('l-1', 'm#1', 1000, 9, 'explicit', 1, 2, 0, 2.5, ?)",
            (f'{{"ask":{{"context":256}},"back":{{}},"carry":{carry}}}',),
        )
    (lease,) = saved(path).leases
    assert lease.parked == f'{{"ask":{{"context":256}},"back":{{}},"carries":{carries}}}'


def test_a_database_of_a_newer_lmxd_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(LmxdError, match="newer lmxd"):
        Database(path, "boot")


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be looked at" * 40, b"SQLite format 3\0" + b"x" * 9000]
)
def test_damage_is_told_from_other_faults(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(Damaged):
        opened(path)
    aside = set_aside(path)
    assert aside.read_bytes() == content
    assert not path.exists()
    (tmp_path / "directory.db").mkdir()
    with pytest.raises(LmxdError, match=r"directory\.db: "):
        Database(tmp_path / "directory.db", "boot")
    (tmp_path / "link.db").symlink_to(tmp_path / "victim")
    with pytest.raises(LmxdError, match=r"link\.db: "):
        Database(tmp_path / "link.db", "boot")
    assert not (tmp_path / "victim").exists()


async def test_what_waits_is_committed_together_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, gate, commits = opened(tmp_path / "ledger.db"), threading.Event(), list[int]()
    apply = database.apply

    def slow(changes: Sequence[Change]) -> None:
        gate.wait()
        commits.append(len(changes))
        apply(changes)

    monkeypatch.setattr(database, "apply", slow)
    writer = Writer(database, lambda: ())
    order: list[int] = []

    def done(number: int, _: object) -> None:
        order.append(number)

    futures = [writer.write([replace(COUNT, count=number)]) for number in range(50)]
    for number, future in enumerate(futures):
        future.add_done_callback(partial(done, number))
    assert writer.pending_since is not None
    gate.set()
    await asyncio.gather(*futures)
    assert order == list(range(50))
    assert sum(commits) == 50
    assert len(commits) <= 2, "one for what came first, one for all the others"
    assert writer.pending_since is None
    await writer.close()
    assert saved(tmp_path / "ledger.db").counts == [replace(COUNT, count=49)]


async def test_what_nobody_waits_for_is_committed_with_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, commits = opened(tmp_path / "ledger.db"), list[int]()
    apply = database.apply

    def counted(changes: Sequence[Change]) -> None:
        commits.append(len(changes))
        apply(changes)

    monkeypatch.setattr(database, "apply", counted)
    writer = Writer(database, lambda: ())
    kept = writer.write([replace(COUNT, count=1)], soon=False)
    await writer.write([replace(COUNT, count=2)])
    assert kept.done(), "in order"
    assert commits == [2]
    await writer.write([replace(COUNT, count=3)], soon=False)  # and by itself, if nothing comes
    hurried = writer.write([replace(COUNT, count=4)], soon=False)
    writer.hurry()
    await hurried
    assert commits == [2, 1, 1]
    writer.write([replace(COUNT, count=5)], soon=False)
    await writer.close()
    assert saved(tmp_path / "ledger.db").counts == [replace(COUNT, count=5)]


async def test_a_writer_that_is_closed_has_written_everything(tmp_path: Path) -> None:
    writer = Writer(opened(tmp_path / "ledger.db"), lambda: ())
    writer.write([COUNT])
    writer.write([YIELD])
    await writer.close()
    assert saved(tmp_path / "ledger.db") == Saved(counts=[COUNT], yields=[YIELD])


def on_disk(path: Path, aside: Path) -> Saved:
    """What a loss of power leaves in the worst case: the file itself, without the log that the kernel has."""
    aside.write_bytes(path.read_bytes())
    return saved(aside)


async def test_what_was_written_is_checkpointed_when_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    database, kept = opened(path), threading.Event()
    checkpoint = database.checkpoint

    def keeping() -> None:
        checkpoint()
        kept.set()

    monkeypatch.setattr(database, "checkpoint", keeping)
    writer = Writer(database, lambda: (), idle=0.01)
    await writer.write([COUNT, MEAN])
    assert await asyncio.to_thread(kept.wait, 10)
    assert on_disk(path, tmp_path / "aside.db") == Saved(counts=[COUNT], means=[MEAN])
    await writer.close()


async def test_a_log_that_grows_is_checkpointed_though_somebody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmxd.store.writer.MOST_COMMITS", 10)
    path = tmp_path / "ledger.db"
    database, commits = opened(path), list[int]()
    apply, checkpoint = database.apply, database.checkpoint

    def applying(changes: Sequence[Change]) -> None:
        apply(changes)
        commits.append(1)

    def keeping() -> None:
        checkpoint()
        commits.append(0)

    monkeypatch.setattr(database, "apply", applying)
    monkeypatch.setattr(database, "checkpoint", keeping)
    writer = Writer(database, lambda: (), idle=1000)
    for number in range(35):
        await writer.write([replace(YIELD, size=number)])
    await writer.close()
    assert commits == [*[*[1] * 10, 0] * 3, *[1] * 5]


async def test_a_checkpoint_that_fails_is_tried_again_and_holds_up_what_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, faults = opened(tmp_path / "ledger.db"), [sqlite3.OperationalError("disk I/O error")]
    checkpoint = database.checkpoint

    def failing() -> None:
        if faults:
            failed.set()
            raise faults.pop()
        checkpoint()

    failed = threading.Event()
    monkeypatch.setattr(database, "checkpoint", failing)
    writer = Writer(database, lambda: (), idle=0.01)
    await writer.write([COUNT])
    assert await asyncio.to_thread(failed.wait, 10)
    await until(lambda: writer.failing is not None)
    assert writer.failing == "disk I/O error"
    await writer.write([YIELD])
    assert writer.failing is None
    await writer.close()
    assert saved(tmp_path / "ledger.db") == Saved(counts=[COUNT], yields=[YIELD])
