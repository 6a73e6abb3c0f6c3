"""The processes of this machine, from /proc, and what they may run on."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def pids() -> set[int]:
    """All that there are."""
    return {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()}


def cores() -> int:
    """The number of the machine's cores that this process, and so its children, may use."""
    return len(os.sched_getaffinity(0))


def name(pid: int) -> str:
    """The kernel's name of a process; "?" if it is gone, or in a namespace that we do not see."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"
