"""RAM as a device: capacity and use from /proc/meminfo, processes from /proc/PID/status.

In a container or a slice whose cgroup has a memory limit, the limit is what there is.
"""

from __future__ import annotations

import re
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Final

from lmxd.devices.driver_calls import DriverCalls
from lmxd.devices.measurement import HOST, DeviceKind, Measurement, ProcessUse, agreed
from lmxd.devices.shared_pages import RamBytes, SharedPages

_PARENT: Final = re.compile(r"^PPid:\s+(\d+)$", re.MULTILINE)
_HANGS: Final = "see dmesg, and lxcfs if this is a container of LXC (GPUs go on meanwhile)"


class HostProbe:
    """Measures RAM. ``used`` is MemTotal - MemAvailable: page cache that the kernel can drop is not in use.

    A mapped model file is such cache, so a process's ``visible`` use leaves it out. Of pages that processes of one
    family share, each has its part.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
        calls: DriverCalls | None = None,
        shared: SharedPages | None = None,
    ) -> None:
        self._proc = proc
        self._shared = shared or SharedPages(proc)
        self._cgroups = cgroups
        self._calls = calls or DriverCalls()

    def measure(self, pids: Set[int]) -> list[Measurement]:
        """RAM. In a container, /proc/meminfo may be a program's answer, which can hang as a driver's can."""
        found = self._calls.ask({HOST: partial(self._measured, pids)})
        return found.get(HOST) or [_unavailable(self._calls.late("/proc/meminfo"), _HANGS)]

    def _measured(self, pids: Set[int]) -> list[Measurement]:
        before = self._uses(pids)
        try:
            memory = _kilobytes((self._proc / "meminfo").read_text())
            total, used = memory["MemTotal"], memory["MemTotal"] - memory["MemAvailable"]
        except (OSError, KeyError, ValueError) as error:
            return [_unavailable(f"/proc/meminfo: {error}")]
        limited = self._limited()
        if limited is not None and limited[0] < total:
            left = total - used  # what is there for all on the machine
            total, used = limited[0], max(limited[1], limited[0] - left)
        return [
            Measurement(
                id=HOST,
                ref=HOST,
                kind=DeviceKind.HOST,
                name="RAM",
                capacity=total,
                used=used,
                processes=agreed(before, self._uses(pids)),
            )
        ]

    def close(self) -> None:
        """Nothing is kept open."""

    def _limited(self) -> tuple[int, int] | None:
        """(limit, bytes in use without page cache) of the tightest cgroup that we are in, if any has a limit."""
        try:
            line = (self._proc / "self/cgroup").read_text().splitlines()[-1]
        except (OSError, IndexError):
            return None
        if not line.startswith("0::/"):
            return None  # cgroup v1
        mine = self._cgroups / line.removeprefix("0::/")
        limits = [found for group in (mine, *mine.parents) if (found := _limit(group)) is not None]
        return min(limits, default=None)

    def _uses(self, pids: Set[int]) -> dict[int, ProcessUse]:
        found = {pid: status for pid in pids if (status := self._status(pid))}
        families = {pid for child, (parent, _) in found.items() if parent in found for pid in (child, parent)}
        self._shared.keep(families)
        return {
            pid: self._shared.use(pid, resident) if pid in families else _alone(resident)
            for pid, (_, resident) in found.items()
        }

    def _status(self, pid: int) -> tuple[int, RamBytes] | None:
        """The parent of a process, and its bytes in RAM."""
        try:
            text = (self._proc / str(pid) / "status").read_text(errors="surrogateescape")
            memory = _kilobytes(text)
            resident = RamBytes(memory["RssAnon"] + memory["RssShmem"], memory["RssFile"])
            parent = _PARENT.search(text)
            return 0 if parent is None else int(parent[1]), resident
        except (OSError, KeyError, ValueError):
            return None  # it has ended, or is the kernel's own


def _alone(resident: RamBytes) -> ProcessUse:
    return ProcessUse(total=resident.own + resident.file, visible=resident.own)


def _unavailable(why: str, remedy: str = "") -> Measurement:
    return Measurement(id=HOST, ref=HOST, kind=DeviceKind.HOST, name="RAM", unavailable=why, remedy=remedy)


def memory_total(proc: Path) -> int:
    """The bytes of RAM that the kernel has; 0 if it does not say."""
    try:
        return _kilobytes((proc / "meminfo").read_text()).get("MemTotal", 0)
    except (OSError, ValueError):
        return 0


def _limit(group: Path) -> tuple[int, int] | None:
    """(limit, bytes in use without page cache) of one cgroup; None if it has no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        current = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return None if limit == "max" else (int(limit), current - int(stat["active_file"]) - int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return None


def _kilobytes(text: str) -> dict[str, int]:
    """The ``Key:  N kB`` lines of a /proc file, in bytes."""
    pairs = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in pairs}
