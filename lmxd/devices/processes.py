"""The processes of this machine, from /proc, and what they may run on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def pids() -> set[int]:
    """All that there are."""
    return {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()}


def cores() -> int:
    """The number of the machine's cores that this process, and so its children, may use."""
    return len(os.sched_getaffinity(0))


def session_seconds(leader: int) -> float:
    """Seconds of processor time that the living processes of a session have had."""
    found = 0
    for pid in pids():
        with suppress(OSError):
            words = (_PROC / str(pid) / "stat").read_text(errors="surrogateescape").rpartition(")")[2].split()
            if int(words[3]) == leader:
                found += int(words[11]) + int(words[12])
    return found / os.sysconf("SC_CLK_TCK")


def name(pid: int) -> str:
    """The kernel's name of a process; "?" if it is gone, or in a namespace that we do not see."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
