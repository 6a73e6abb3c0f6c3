"""An lmxd that is started again: nothing that is found stops it, and who was let in before is let in no longer."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import socket
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import FAKE, House, card
from waiting import until

from lmxd.core.words import InstanceId
from lmxd.daemon.launching.doors import admit
from lmxd.engines.engine import Endpoint
from lmxd.engines.http import get
from lmxd.instances import proc

GIB = 2**30
PYTHON = "/usr/bin/python3.11"
"""For users who may not enter where ours is."""
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(PYTHON).exists(), reason="only root starts engines as another user"
)


def house(tmp_path: Path, **sections: Any) -> House:
    return House(tmp_path, gpu={"device": "host", "max_memory_gb": 1}, models={"m": {}, "n": {}}, **sections)


@pytest.mark.parametrize("written", [b"a\nb\n", b"", b"\xff" * 43 + b"\n", b"a" * 44 + b"\n", b"a" * 42 + b"\r\n"])
async def test_a_key_that_lmxd_never_made_stops_no_start(tmp_path: Path, written: bytes) -> None:
    """Its file belongs to the engine where engines run as a user of their own."""
    async with house(tmp_path).open(stays=True) as before, before.client() as lmxd:
        bad = await lmxd.request("m", hold="explicit")
        good = await lmxd.request("n", hold="explicit")
        (before.where.home / f"{bad.instance}.key").write_bytes(written)
    async with house(tmp_path).open() as h:
        await h.until(lambda: list(h.phases()) == [good.instance])


async def test_a_key_that_no_header_may_hold_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert await get(Endpoint(url=url, key="a\nb"), "/") == (0, "")


@pytest.mark.parametrize(("table", "column"), [("instances", "ask"), ("instances", "option"), ("leases", "gids")])
async def test_one_row_that_cannot_be_read_stops_no_start(
    tmp_path: Path, table: str, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path).open(stays=True) as before, before.client() as lmxd:
        await lmxd.request("m", hold="explicit")
        good = await lmxd.request("n", hold="explicit")
    with closing(sqlite3.connect(before.where.state / "ledger.db")) as database, database:
        whose = "instance" if table == "leases" else "id"
        assert database.execute(f"UPDATE {table} SET {column} = '[' WHERE {whose} = 'm#1'").rowcount == 1
    with caplog.at_level(logging.ERROR):
        async with house(tmp_path).open() as h:
            await h.until(lambda: good.lease in h.state.leases and h.phases().get(good.instance) == "ready")
    assert "is not taken" in caplog.text


def named(path: str | None) -> list[int]:
    """The users whom the access list of a socket lets in, beside its owner."""
    assert path is not None
    if "system.posix_acl_access" not in os.listxattr(path):
        return []
    raw = os.getxattr(path, "system.posix_acl_access")
    entries = [struct.unpack_from("<HHI", raw, at) for at in range(4, len(raw), 8)]
    return [uid for tag, rights, uid in entries if tag == 2 and rights]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_restart_lets_in_who_has_a_lease_and_nobody_else(tmp_path: Path, lost: bool) -> None:
    """Whoever had one would be able to connect until the next lease of the instance begins or ends."""
    async with house(tmp_path).open(stays=True) as before, before.client() as lmxd:
        lease = await lmxd.request("m", hold="explicit")
        assert lease.socket is not None
        admit(Path(lease.socket), [4242])
        assert named(lease.socket) == [4242]
    if lost:
        (before.where.state / "ledger.db").unlink()
    async with house(tmp_path).open() as h:
        assert h.phases() == {lease.instance: "ready"}
        assert named(lease.socket) == []


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that other users reach, with an engine that they can run."""
    with tempfile.TemporaryDirectory(prefix="lmxd-test-", dir="/tmp") as directory:
        place = Path(directory)
        place.chmod(0o755)
        shutil.copy(FAKE, place / "fake.py")
        shutil.copy(FAKE.with_name("fake_slots.py"), place)
        engine = place / "llama-server"
        engine.write_text(f'#!/bin/sh\nexec {PYTHON} -S -E {place}/fake.py "$@"\n')
        engine.chmod(0o755)
        yield place


@as_root
async def test_engines_of_a_former_user_are_taken_over(open_to_all: Path) -> None:
    """The user was another in the configuration when they were started: the ledger knows."""
    former, new = (pwd.getpwnam(name).pw_uid for name in ("nobody", "daemon"))
    async with house(open_to_all, engine={"user": "nobody"}).open(stays=True) as before, before.client() as lmxd:
        lease = await lmxd.request("m", hold="explicit")
        pid = before.daemon.performer.pid(InstanceId(lease.instance))
        assert pid is not None
        assert proc.uids(pid) == {former}
    async with house(open_to_all, engine={"user": "daemon"}).open() as h, h.client() as lmxd:
        assert h.phases() == {lease.instance: "ready"}
        assert h.daemon.performer.pid(InstanceId(lease.instance)) == pid
        assert {former, new} <= h.daemon.access.engines, "neither may use lmxd"
        other = await lmxd.request("n")
        started = h.daemon.performer.pid(InstanceId(other.instance))
        assert started is not None
        assert proc.uids(started) == {new}
    assert not proc.lives(pid)


@as_root
async def test_engines_of_a_former_user_that_are_not_taken_over_are_ended(open_to_all: Path) -> None:
    async with house(open_to_all, engine={"user": "nobody"}).open(stays=True) as before, before.client() as lmxd:
        lease = await lmxd.request("m", hold="explicit")
        pid = before.daemon.performer.pid(InstanceId(lease.instance))
        (before.where.home / f"{lease.instance}.key").write_text("none")
    assert pid is not None
    async with house(open_to_all, engine={"user": "daemon"}).open() as h:
        assert not proc.lives(pid)
        await h.until(lambda: not h.phases())


@pytest.mark.parametrize("late", [True, False])
async def test_no_foreign_byte_is_credited_to_a_hold_after_a_restart(tmp_path: Path, late: bool) -> None:
    """Where processes are not told apart, a hold has what use has grown by. Nothing is known of that at the first look,
    which may be a late one.
    """
    nvml = FakeNvml(replace(card(24), processes=None, other=5 * GIB))
    async with House(tmp_path, nvml).open(stays=True) as before, before.client() as lmxd:
        await lmxd.hold(9 * GIB, hold="explicit")
        (device,) = (await lmxd.devices()).devices
        assert (device.foreign, device.headroom) == (5 * GIB, 8 * GIB)
    nvml.init_fault = 9 if late else None
    async with House(tmp_path, nvml, gpu={"device": "GPU-a"}).open() as h, h.client() as lmxd:
        assert len(h.state.leases) == 1
        nvml.init_fault = None

        async def answers() -> bool:
            return (await lmxd.devices()).devices[0].unavailable is None

        await until(answers)
        for _ in range(2):
            (device,) = (await lmxd.devices()).devices
            assert (device.foreign, device.charged, device.headroom) == (5 * GIB, 9 * GIB, 8 * GIB)
        nvml.cards[0].other += 9 * GIB  # its holder takes it
        (device,) = (await lmxd.devices()).devices
        assert (device.foreign, device.charged, device.headroom) == (5 * GIB, 9 * GIB, 8 * GIB)
