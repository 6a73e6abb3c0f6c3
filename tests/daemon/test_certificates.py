"""A ledger is rebuilt from nothing but what lmxd itself wrote: a process shows what it likes for its environment."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from house import House
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from lmxd.daemon.keeping import certificates
from lmxd.daemon.places import Places
from lmxd.instances import proc
from lmxd.instances.orphans import impostors, left_behind, orphans
from lmxd.store.rows import InstanceRow

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as another user")
SLEEP = ["/bin/sleep", "60"]


async def row(tmp_path: Path) -> tuple[Places, InstanceRow]:
    """A row that lmxd wrote, of an instance with a socket."""
    house = House(tmp_path, models={"m": {}}, gpu={"device": "host"}, engine={"endpoint": "unix"})
    async with house.open(), house.client() as client:
        await client.request("m")
        found = json.loads(house.daemon.records.certificate(next(iter(house.daemon.admission.state.instances))))
    return house.where, InstanceRow(**found)


def changed(good: InstanceRow, part: str, *way: str, value: object) -> InstanceRow:
    """The row with another value somewhere inside one of its JSON parts."""
    whole = json.loads(getattr(good, part))
    inner = whole
    for name in way[:-1]:
        inner = inner[name]
    inner[way[-1]] = value
    more: dict[str, Any] = {part: json.dumps(whole)}
    return replace(good, **more)


async def test_nothing_is_taken_but_what_lmxd_writes(tmp_path: Path) -> None:
    where, good = await row(tmp_path)
    start = certificates.start_of(good, where)
    assert start.instance == good.id == "m#1"
    (tmp_path / "secret").write_text("secret")
    (where.home / "link").symlink_to(tmp_path)
    elsewhere = ["/etc/shadow", str(where.home / "../secret"), str(where.home / "link/secret"), "secret", ""]
    elsewhere += [str(where.home / "n#1.key"), str(where.home / "lock"), str(where.home / "m#1.key/../lock")]
    bad = [changed(good, "start", "address", "key_file", value=path) for path in elsewhere]
    bad += [changed(good, "start", "address", "socket", value=path) for path in [*elsewhere, str(where.socket)]]
    bad += [
        changed(good, "start", "plan", "prompts", value=path) for path in [*elsewhere, str(where.state / "prompts")]
    ]
    bad += [changed(good, "start", "kept", value=path) for path in [*elsewhere, str(where.state / "prompts")]]
    bad += [changed(good, "start", "plan", "home", value="/"), changed(good, "start", "plan", "instance", value="n#1")]
    bad += [changed(good, "start", "address", "port", value=port) for port in (0, -1, 65536)]
    bad += [changed(good, "start", "address", "health", value=path) for path in ("x", "/\r\nX: y", "/\x1b")]
    bad += [changed(good, "option", "demand", value={"host": size}) for size in (-1, 2**50)]
    bad += [replace(good, id=name) for name in ("../m#1", "m", "m#0", "m#1/x", "#1", "m#-1", "a\nb#1", "m#" + "9" * 30)]
    bad += [replace(good, active_at=at) for at in (math.nan, math.inf, -1.0)]
    for each in bad:
        with pytest.raises(ValueError, match=r"\w"):
            certificates.start_of(each, where)


WRONG: dict[str, list[object]] = {
    "float": [None, "1", True, [], math.nan, math.inf, -1, 10**400],
    "str": [None, 1, [], {}, "\ud800", "["],
    "str | None": [None, 1, [], {}, "\ud800", "["],
    "int | None": ["1", 1.5, True, []],
    "float | None": ["1", True, [], math.nan, math.inf, -1, 10**400],
}
"""What no column of that kind may have, least of all in a row made of a certificate."""


async def test_nothing_is_taken_that_the_ledger_could_not_write(tmp_path: Path) -> None:
    """An INSERT that fails is tried for ever, and nobody is admitted meanwhile."""
    where, good = await row(tmp_path)
    fresh = asdict(good)
    assert certificates.row_of(os.getpid(), json.dumps(fresh), where).id == good.id
    for column in fields(InstanceRow):
        for value in WRONG[str(column.type)]:
            if column.name != "phase" or value != "[":  # which is not taken from there
                forged = json.dumps(fresh | {column.name: value})
                with pytest.raises((ValueError, TypeError)):
                    certificates.row_of(os.getpid(), forged, where)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**30, 1e300])
async def test_no_number_inside_is_one_that_cannot_be_reckoned_with(tmp_path: Path, value: float) -> None:
    """A timer that is due at no number at all keeps every later one from its turn."""
    where, good = await row(tmp_path)
    bad = [changed(good, "ask", "idle_timeout", value=value), changed(good, "start", "poll", value=value)]
    bad += [changed(good, "start", "limits", "stop_timeout", value=value)]
    for each in bad:
        with pytest.raises(ValueError, match="figures"):
            certificates.start_of(each, where)


async def test_a_certificate_names_no_user_but_that_of_its_process(tmp_path: Path) -> None:
    """Whom engines run as may not use lmxd: a process must not say that of somebody else."""
    where, good = await row(tmp_path)
    forged = changed(good, "start", "uid", value=os.geteuid() + 1)
    with pytest.raises(ValueError, match="another user than it says"):
        certificates.row_of(os.getpid(), json.dumps(asdict(forged)), where)


async def test_a_forged_certificate_stops_no_admission(tmp_path: Path) -> None:
    """The ledger is gone, and a process that an engine left shows another row than its own."""
    where, good = await row(tmp_path)
    with claiming(where.home, json.dumps(asdict(good) | {"started_at": None})):
        (where.state / "ledger.db").unlink()
        house = House(tmp_path, models={"m": {}}, gpu={"device": "host"}, engine={"endpoint": "unix"})
        async with house.open(), house.client() as client, asyncio.timeout(20):
            await client.request("m")


async def test_a_link_in_the_place_of_a_key_is_none(tmp_path: Path) -> None:
    where, good = await row(tmp_path)
    (where.home / "m#1.key").unlink(missing_ok=True)
    (where.home / "m#1.key").symlink_to("/etc/shadow")
    with pytest.raises(ValueError, match="key is not in our directory"):
        certificates.start_of(good, where)


@given(
    text=st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(json.dumps)
)
def test_no_certificate_breaks_the_search(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    where = _places(tmp_path_factory.mktemp("p"))
    safe = text.encode(errors="surrogatepass").replace(b"\0", b"")
    with pytest.raises((ValueError, TypeError)):
        certificates.row_of(os.getpid(), os.fsdecode(safe), where)


def _places(directory: Path) -> Places:
    return Places(socket=directory / "s", home=directory, logs=directory, state=directory, shared=False)


@contextmanager
def claiming(home: Path, certificate: str = "", user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says that it is an instance of ours."""
    env = {"LMXD_HOME": str(home), "LMXD_INSTANCE": "m#1", "LMXD_CERTIFICATE": certificate}
    more: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": ()}
    process = subprocess.Popen(SLEEP, env=env, start_new_session=True, **more)
    try:
        wait_until(lambda: "LMXD_HOME" in proc.environment(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()


@as_root
async def test_another_users_process_is_neither_believed_nor_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where, good = await row(tmp_path)
    with claiming(where.home, json.dumps(asdict(good)), NOBODY) as other:
        assert certificates.found(where, frozenset()) == []
        assert f"pid {other.pid} has a certificate that is not taken" in caplog.text
        assert impostors(where.home) == [other.pid]
        assert left_behind(where.home, where.logs, {}, set()) == {}
        assert other.poll() is None
        assert list(orphans(where.home, {NOBODY})) == [other.pid], "but for a user that engines run as"


async def test_a_certificate_of_our_own_user_is_checked_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where, good = await row(tmp_path)
    forged = changed(good, "start", "address", "key_file", value="/etc/shadow\n\x1b[2J")
    with claiming(where.home, json.dumps(asdict(forged))) as other, claiming(where.home, "[" * 100_000):
        assert certificates.found(where, frozenset()) == []
        assert f"pid {other.pid} has a certificate that is not taken: its key is not" in caplog.text
        assert "\x1b" not in caplog.text
    with claiming(where.home, json.dumps(asdict(good))) as mine:
        (taken,) = certificates.found(where, frozenset())
        assert (taken.pid, taken.born, taken.id) == (mine.pid, proc.born(mine.pid), "m#1")
