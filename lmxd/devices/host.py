"""RAM as a device: capacity and use from /proc/meminfo, processes from /proc/PID/status."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from lmxd.devices.measurement import HOST, Kind, Measurement, Use


class HostProbe:
    """``used`` is MemTotal - MemAvailable: page cache that the kernel can drop is not in use.

    A mapped model file is such cache, so a process's ``visible`` use leaves it out.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def measure(self, pids: Set[int]) -> list[Measurement]:
        try:
            memory = _kilobytes((self._proc / "meminfo").read_text())
            total, available = memory["MemTotal"], memory["MemAvailable"]
        except (OSError, KeyError, ValueError) as error:
            return [Measurement(id=HOST, ref=HOST, kind=Kind.HOST, name="RAM", unavailable=f"/proc/meminfo: {error}")]
        return [
            Measurement(
                id=HOST,
                ref=HOST,
                kind=Kind.HOST,
                name="RAM",
                capacity=total,
                used=total - available,
                processes={pid: use for pid in pids if (use := self._use(pid))},
            )
        ]

    def _use(self, pid: int) -> Use | None:
        try:
            memory = _kilobytes((self._proc / str(pid) / "status").read_text())
            visible = memory["RssAnon"] + memory["RssShmem"]
            return Use(total=visible + memory["RssFile"], visible=visible)
        except (OSError, KeyError, ValueError):
            return None  # it has ended


def _kilobytes(text: str) -> dict[str, int]:
    """The ``Key:  N kB`` lines of a /proc file, in bytes."""
    pairs = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in pairs}
