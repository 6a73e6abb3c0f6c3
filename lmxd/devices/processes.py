"""Names and RAM of the processes of this machine, from /proc."""

from __future__ import annotations

from pathlib import Path

from lmxd.devices.host import HostProbe

PROC = Path("/proc")


def name(pid: int, proc: Path = PROC) -> str:
    """What the kernel calls a process; "?" if it is gone, or in a namespace that we do not see."""
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip() or "?"
    except OSError:
        return "?"


def in_ram(proc: Path = PROC) -> dict[int, int]:
    """Bytes by pid, page cache left out. Takes a file a process: to be asked for, not for every reading."""
    probe = HostProbe(proc)
    pids = {int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()}
    return {pid: use.visible for pid in pids if (use := probe.use(pid)) and use.visible}
