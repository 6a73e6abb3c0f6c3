"""A program that is asked what it is, and that cannot be ended, as one inside of a driver that hangs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from lmxd.engines.llama_cpp.asking import ask

FREEZER = Path("/sys/fs/cgroup/freezer")
"""The kernel's older one, in which SIGKILL has to wait."""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    if not os.access(FREEZER, os.W_OK):
        pytest.skip("there is no cgroup freezer of the first version for us")
    made = FREEZER / f"lmxd-test-{os.getpid()}"
    made.mkdir()
    yield made
    (made / "freezer.state").write_text("THAWED")
    wait_until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def test_one_that_cannot_be_ended_is_left_to_itself(cgroup: Path) -> None:
    script = f"echo $$ > {cgroup}/cgroup.procs; echo FROZEN > {cgroup}/freezer.state; sleep 60"
    with pytest.raises(subprocess.TimeoutExpired):
        ask(("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}, 1.0)
    assert (cgroup / "cgroup.procs").read_text(), "SIGKILL has ended it"


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    with pytest.raises(subprocess.TimeoutExpired):
        ask(("/bin/sh", "-c", script), {"PATH": "/usr/bin:/bin"}, 1.0)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
