"""What the machine does to a daemon: full and broken disks, no descriptors, no processes, clocks that jump."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from house import House, http, model

from lmxd import failpoints
from lmxd.core.events import TimePassed
from lmxd.devices.watcher import Look
from lmxd.errors import LmxdError
from lmxd.store.database import Database
from lmxd.store.rows import Change

SMALL = {"estimated_memory_gb": 0.2}
Fail = Callable[[str], None]


def house(tmp_path: Path, **sections: Any) -> House:
    rooms: dict[str, Any] = {"models": {"a": SMALL, "b": SMALL}, "gpu": {"device": "host", "max_memory_gb": 1}}
    return House(tmp_path, **(rooms | sections))


@pytest.fixture
def fail() -> Iterator[Fail]:
    yield failpoints.activate
    failpoints.activate("")


async def test_a_disk_that_fails_stops_admission_until_it_works_again(tmp_path: Path, fail: Fail) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        lease = await lmxd.request("b", hold="explicit")
        fail("commit_begin:error")
        asked = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: h.daemon.health.unwritable is not None)
        assert h.launched("a#1") is None, "nothing is started that is not written down"
        with pytest.raises(LmxdError, match="the ledger cannot be written") as refused:
            await other.request("a")
        assert (refused.value.code, refused.value.exit_status) == ("ledger_unwritable", 75)
        assert any("cannot be written" in w for w in (await other.status()).warnings), "it says so, and can be asked"
        assert not h.daemon.health.fresh, "the watchdog is not fed"
        assert (await http(lease, "/slots")).status == 200, "what runs, runs on"
        fail("")
        assert (await asyncio.wait_for(asked, 10)).instance == "a#1"
        assert h.daemon.health.fresh
        assert not any("cannot be written" in w for w in (await other.status()).warnings)


async def test_a_disk_that_keeps_nothing_stops_admission_until_it_does(tmp_path: Path, fail: Fail) -> None:
    """What was written before is in the kernel's hands alone."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        fail("checkpoint_begin:error")
        lease = await lmxd.request("b", hold="explicit")
        await h.until(lambda: h.daemon.health.unwritable is not None)
        with pytest.raises(LmxdError, match="the ledger cannot be written"):
            await lmxd.request("a")
        assert (await http(lease, "/slots")).status == 200, "what runs, runs on"
        fail("")
        await h.until(lambda: h.daemon.health.unwritable is None)
        assert (await lmxd.request("a")).instance == "a#1"


async def test_a_disk_that_hangs_holds_up_only_who_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        lease = await lmxd.request("b", hold="explicit")
        works, apply = threading.Event(), Database.apply

        def hanging(database: Database, changes: Sequence[Change]) -> None:
            works.wait()
            apply(database, changes)

        monkeypatch.setattr(Database, "apply", hanging)
        monkeypatch.setattr("lmxd.daemon.answering.health.STALE", 0.0)
        asked = asyncio.create_task(lmxd.request("a"))
        await h.until(lambda: h.daemon.health.unwritable is not None)
        with pytest.raises(LmxdError, match="nothing was written for"):
            await other.request("a")
        assert (await other.status()).leases == 1, "whoever asks gets an answer"
        assert (await http(lease, "/slots")).status == 200, "what runs, runs on"
        assert h.launched("a#1") is None, "nothing is started that is not written down"
        works.set()
        assert (await asyncio.wait_for(asked, 10)).instance == "a#1"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
async def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, of 512 KiB."""
    h = house(tmp_path)
    h.where.state.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=750", "lmxd-test", h.where.state])
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        async with h.open(), h.client() as lmxd:
            await lmxd.request("b")
            filler = h.where.state / "filler"
            with contextlib.suppress(OSError):
                while True:
                    with filler.open("ab") as file:
                        file.write(b"x" * 4096)
            asked = asyncio.create_task(lmxd.request("a"))
            await h.until(lambda: h.daemon.health.unwritable is not None)
            assert "full" in str(h.daemon.health.unwritable) or "I/O" in str(h.daemon.health.unwritable)
            filler.unlink()
            assert (await asyncio.wait_for(asked, 20)).instance == "a#1"
    finally:
        subprocess.run(["umount", "-l", h.where.state], check=True)


async def test_a_ledger_that_is_damaged_while_it_is_in_use_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a", hold="explicit")
        apply = Database.apply

        def damaged(database: Database, changes: object) -> None:
            monkeypatch.setattr(Database, "apply", apply)
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        monkeypatch.setattr(Database, "apply", damaged)
        await lmxd.renew(lease.lease)
        assert any("was damaged" in w for w in (await lmxd.status()).warnings)
        assert list(h.where.state.glob("ledger.db.damaged-*"))
        saved = h.saved()
        there = h.state.leases.keys() | h.state.instances.keys()
        kept = {row.id for row in saved.leases} | {row.id for row in saved.instances}
        assert kept == there, "all that is known is in the new one"
        assert await lmxd.request("b")


async def test_no_process_can_be_made(tmp_path: Path, fail: Fail) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        for place in ("before_spawn", "after_spawn", "key_written", "start_performed"):
            fail(f"{place}:error")
            with pytest.raises(LmxdError) as refused:
                await lmxd.request("a")
            assert refused.value.code == "launch_failed", place
            fail("")
            h.state.failed.clear()
            await h.until(lambda: h.phases() == {})
        assert (await lmxd.request("a")).instance == "a#5"


async def test_no_descriptor_for_a_connection(tmp_path: Path) -> None:
    """Those who come too many wait or are turned away; when there are descriptors again, it goes on."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        await lmxd.request("a")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        clients = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 21, limit[1]))
            refused = 0
            for _ in range(30):
                client = h.client(patience=0)
                try:
                    await client.__aenter__()
                    clients.append(client)
                    await asyncio.wait_for(client.queue(), 0.2)
                except (OSError, LmxdError, TimeoutError):
                    refused += 1
            assert refused
            assert (await lmxd.status()).leases == 1, "who is connected is served"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for client in clients:
                await client.__aexit__()
        async with h.client() as again:
            assert (await asyncio.wait_for(again.status(), 10)).leases == 1


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_the_clock_on_the_wall_means_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a", hold="ttl", ttl=600)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert (await lmxd.request("b")).instance == "b#1"
        h.daemon.loop.handle(TimePassed(at=time.monotonic()))
        left = (await lmxd.renew(lease.lease)).expires_in
        assert left is not None
        assert 590 < left < 600.001, "sums of floats are off by a hair"
        assert h.phases() == {"a#1": "ready", "b#1": "ready"}


async def test_an_engine_that_dies_while_it_streams(tmp_path: Path) -> None:
    model(tmp_path, "a", die_after=3)
    told: list[dict[str, str]] = []
    async with house(tmp_path).open() as h, h.client(on_notification=lambda _, params: told.append(params)) as lmxd:
        lease = await lmxd.request("a")
        with pytest.raises(aiohttp.ClientPayloadError):
            await http(lease, "/completion", b'{"stream": true}')
        await h.until(lambda: bool(told) and h.phases() == {})
        assert told[0]["reason"] == "instance_exited"
        assert "SIGSEGV" in told[0]["detail"]
        model(tmp_path, "a")
        assert (await lmxd.request("a")).instance == "a#2"


async def test_an_engine_that_is_stopped_by_a_signal_counts_as_busy(tmp_path: Path) -> None:
    """Nobody is cut off on a guess; an administrator may end it."""
    async with house(tmp_path).open() as h, h.client() as lmxd:
        lease = await lmxd.request("a")
        launched = h.launched("a#1")
        assert launched is not None
        assert launched.process is not None
        os.kill(launched.process.pid, signal.SIGSTOP)
        await lease.release()
        assert h.phases() == {"a#1": "ready"}
        await lmxd.stop("a#1")
        await h.until(lambda: h.phases() == {})


async def test_reloads_that_cross_looks_lose_no_device(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd, h.client() as other:
        seen = asyncio.gather(*(other.devices() for _ in range(10)))
        yields = asyncio.gather(*(other.yield_(1) for _ in range(10)))
        await asyncio.gather(*(lmxd.reload() for _ in range(5)))
        assert all([d.unavailable for d in found.devices] == [None] for found in await seen)
        assert {begun.device for begun in await yields} == {"host"}


async def test_a_look_that_fails_for_no_foreseen_reason_is_made_again(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        looked, measuring = 0, h.daemon.measuring
        look = measuring.watcher.look

        async def fails(pids: Set[int]) -> Look:
            nonlocal looked
            looked += 1
            if looked == 2:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a name")
            return await look(pids)

        measuring.watcher.look = fails  # type: ignore[method-assign]
        lease = await lmxd.request("a")
        await h.until(lambda: looked >= 4)
        assert lease.lease in h.state.leases
