"""Control groups, where this machine lets us make some; under systemd they are tried by tests/machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import until

from lmxd.instances import exits, proc
from lmxd.instances.cgroup import Groups
from lmxd.instances.process import Process


@pytest.fixture
def root() -> Iterator[Path]:
    """A group of our own to divide."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(words[1]) for words in mounts if words[2] == "cgroup2"]
    if not found:
        pytest.skip("there are no control groups v2 here")
    place, ours = found[0] / f"lmxd-test-{os.getpid()}", Path("/proc/self/cgroup").read_text()
    (line,) = [line for line in ours.splitlines() if line.startswith("0::")]
    try:
        place.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    yield place
    with suppress(OSError):
        (found[0] / line.removeprefix("0::/") / "cgroup.procs").write_text(str(os.getpid()))
    for path in (*place.iterdir(), place):
        with suppress(OSError):
            path.rmdir()


async def test_what_leaves_its_session_does_not_leave_its_group(root: Path) -> None:
    groups = Groups.at(root)
    if groups.root is None:
        pytest.skip("we may not be moved")
    assert str(os.getpid()) in (root / "lmxd/cgroup.procs").read_text().split()
    group = groups.make("m#1", None)
    assert group is not None
    output = os.open(os.devnull, os.O_WRONLY)
    script = "trap '' TERM; (trap '' TERM; setsid sleep 60) & wait"
    process = Process.spawn(("sh", "-c", script), os.environ, output, group)
    os.close(output)
    runaways: list[int] = []

    def has_run_away() -> bool:
        members = {int(pid) for pid in (group.path / "cgroup.procs").read_text().split()} - {process.pid}
        runaways[:] = [pid for pid in members if "sleep" in Path(f"/proc/{pid}/comm").read_text()]
        return bool(runaways)

    await until(has_run_away)
    (runaway,) = runaways
    watched = os.pidfd_open(runaway)
    assert groups.find("m#1", None) is not None
    await process.end(0.1)
    assert exits.exited((watched,), 5), "it went with its group"
    os.close(watched)
    assert not proc.lives(runaway)


def test_groups_that_nobody_knows_are_emptied(root: Path) -> None:
    groups = Groups.at(root)
    if groups.root is None:
        pytest.skip("we may not be moved")
    kept, left = groups.make("m#1", None), groups.make("m#2", None)
    assert kept is not None
    assert left is not None
    with subprocess.Popen(["sleep", "60"]) as known, subprocess.Popen(["sleep", "60"]) as unknown:
        kept.add(known.pid)
        left.add(unknown.pid)
        groups.sweep({"m#1"})
        assert unknown.wait(30) == -9
        assert known.poll() is None
        known.kill()


def test_without_delegation_nothing_is_made() -> None:
    assert Groups(None).make("m#1", 2**30) is None
    assert Groups(None).find("m#1", None) is None
