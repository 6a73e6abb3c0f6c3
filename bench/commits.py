"""What a commit of the ledger takes, by who makes it and who waits for it: microseconds each, one row and three.

bench/commits.py [--rounds N]: by the writer's thread as the daemon has it, on the calling thread itself, and there
with the disk waited for. docs/adr/0012 draws the conclusion.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from lmxd.store.database import Database
from lmxd.store.rows import Change, CountRow, InstanceRow, LeaseRow
from lmxd.store.writer import Writer

LEASE = LeaseRow(
    id="l-1",
    instance="m#1",
    uid=1000,
    pid=9,
    gids="[1, 2]",
    user="",
    hold="connection",
    slots=1,
    share=True,
    size=2**30,
    priority=0,
    granted_at=2.5,
    ttl=None,
    expires_at=None,
    key="k" * 16,
    digest="d" * 32,
    parked=None,
)
INSTANCE = InstanceRow(
    id="m#1",
    phase="ready",
    ask="a" * 600,
    option="o" * 120,
    start="s" * 900,
    pid=7,
    born=8,
    started_at=1.5,
    ready_at=2.5,
    active_at=3.5,
    work=4.0,
    prompted=5.0,
)
BATCHES: tuple[Sequence[Change], ...] = ((LEASE,), (LEASE, INSTANCE, CountRow(id="instances m", count=1)))
PAUSE = 0.0002
"""Seconds between two, as between two calls of a client."""


async def measure(name: str, commit: Callable[[Sequence[Change]], Awaitable[None]], rounds: int) -> None:
    for rows in BATCHES:
        times = []
        for _ in range(rounds):
            begun = time.perf_counter_ns()
            await commit(rows)
            times.append((time.perf_counter_ns() - begun) / 1000)
            await asyncio.sleep(PAUSE)
        times.sort()
        print(f"{name:40} {len(rows):4} {times[len(times) // 2]:9.0f} {times[len(times) * 99 // 100]:9.0f}")


async def compare(directory: Path, rounds: int) -> None:
    print(f"{'a commit':40} {'rows':>4} {'p50 us':>9} {'p99 us':>9}")
    database = Database(directory / "thread.db", "boot")
    database.load()
    writer = Writer(database, lambda: ())

    async def by_the_thread(rows: Sequence[Change]) -> None:
        await writer.write(rows)

    await measure("by the writer's thread", by_the_thread, rounds)
    await writer.close()
    database = Database(directory / "own.db", "boot")
    database.load()

    async def by_oneself(rows: Sequence[Change]) -> None:
        database.apply(rows)

    async def onto_the_disk(rows: Sequence[Change]) -> None:
        database.apply(rows)
        database.checkpoint()

    await measure("on the calling thread", by_oneself, rounds)
    await measure("on it, and onto the disk", onto_the_disk, max(1, rounds // 10))
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # a disk, where /tmp may be none
        uvloop.run(compare(Path(name), rounds))


if __name__ == "__main__":
    main()
