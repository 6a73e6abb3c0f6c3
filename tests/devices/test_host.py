"""RAM as a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import ProcessUse, agreed

KIB = 1024


def proc(tmp_path: Path) -> Path:
    (tmp_path / "meminfo").write_text(
        "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  700 kB\nHugePages_Total: 0\n"
    )
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text(
        "Name:\tx\nVmRSS:\t 90 kB\nRssAnon:\t 50 kB\nRssFile:\t 30 kB\nRssShmem:\t 10 kB\n"
    )
    return tmp_path


def test_used_is_what_is_not_available(tmp_path: Path) -> None:
    (found,) = HostProbe(proc(tmp_path)).measure({7, 8})
    assert (found.id, found.capacity, found.used) == ("host", 1000 * KIB, 300 * KIB)
    assert found.processes == {7: ProcessUse(total=90 * KIB, visible=60 * KIB)}, (
        "mapped files are no use of RAM, pid 8 is gone"
    )


def test_what_came_or_went_meanwhile_is_not_taken_for_seen() -> None:
    before = {1: ProcessUse(total=9, visible=5), 2: ProcessUse(total=4, visible=4), 3: ProcessUse(total=2, visible=2)}
    after = {1: ProcessUse(total=12, visible=8), 2: ProcessUse(total=1, visible=1), 4: ProcessUse(total=3, visible=3)}
    assert agreed(before, after) == {
        1: ProcessUse(total=12, visible=5),
        2: ProcessUse(total=1, visible=1),
        4: ProcessUse(total=3, visible=0),
    }


def cgroup(tmp_path: Path, name: str, limit: str) -> None:
    group = tmp_path / "cgroup" / name
    group.mkdir(parents=True)
    (group / "memory.max").write_text(limit)
    (group / "memory.current").write_text(str(200 * KIB))
    (group / "memory.stat").write_text(f"anon 5\nactive_file {30 * KIB}\ninactive_file {20 * KIB}\n")


@pytest.mark.parametrize(
    ("outer", "inner", "capacity", "used"),
    [
        ("max", "max", 1000, 300),
        (f"{400 * KIB}", "max", 400, 150),
        ("max", f"{500 * KIB}", 500, 150),
        ("9999999", "max", 1000, 300),
    ],
)
def test_the_tightest_limit_of_a_container_is_what_there_is(
    tmp_path: Path, outer: str, inner: str, capacity: int, used: int
) -> None:
    cgroup(tmp_path, "a", outer)
    cgroup(tmp_path, "a/b", inner)
    made = proc(tmp_path)
    (made / "self").mkdir()
    (made / "self/cgroup").write_text("0::/a/b\n")
    (found,) = HostProbe(made, tmp_path / "cgroup").measure(set())
    assert (found.capacity, found.used) == (capacity * KIB, used * KIB)


def test_figures_that_are_missing_make_it_unavailable(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 5 kB\n")
    assert HostProbe(tmp_path).measure(set())[0].unavailable
    assert HostProbe(tmp_path / "none").measure(set())[0].unavailable


def test_this_machine() -> None:
    (found,) = HostProbe().measure({os.getpid()})
    assert found.capacity > found.used > 0
    assert found.processes is not None
    assert found.processes[os.getpid()].total > 2**20
