"""Processes that an earlier daemon of the same home left behind: found by their environment, and ended."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def orphans(home: Path) -> list[int]:
    """Pids of living processes that were started for ``home``."""
    mark = b"LMXD_HOME=" + os.fsencode(home)
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def end_orphans(home: Path, grace: float = 2.0) -> list[int]:
    """SIGTERM, after ``grace`` seconds SIGKILL; returns whom. Only for the holder of the home's lock."""
    found = orphans(home)
    fds = {}
    for pid in found:
        with suppress(OSError):
            fds[pid] = os.pidfd_open(pid)
            signal.pidfd_send_signal(fds[pid], signal.SIGTERM)
    deadline = time.monotonic() + grace
    while set(orphans(home)) & fds.keys() and time.monotonic() < deadline:
        time.sleep(0.02)
    for fd in fds.values():
        with suppress(OSError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)
    return found
