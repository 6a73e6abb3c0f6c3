"""Processes that an earlier daemon of the same home has left: found by their environment, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from lmxd.instances import proc
from lmxd.instances.exits import exited


def orphans(home: Path) -> dict[int, dict[str, str]]:
    """Living processes that were started for ``home``: pid -> environment."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    found = {pid: proc.environment(pid) for pid in pids}
    return {pid: env for pid, env in found.items() if env.get("LMXD_HOME") == str(home)}


def end_orphans(home: Path, kept: Set[str] = frozenset(), grace: float = 2.0) -> list[int]:
    """SIGTERM to all but the ``kept`` instances', after ``grace`` seconds SIGKILL; returns whom, once they are gone.

    Only for the holder of the home's lock.
    """
    fds: dict[int, int] = {}
    for pid, env in orphans(home).items():
        if env.get("LMXD_INSTANCE") not in kept:
            with suppress(OSError):
                fds[pid] = os.pidfd_open(pid)
    try:
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
            living = set(fds.values()) - exited(fds.values())
            for fd in living:
                with suppress(OSError):
                    signal.pidfd_send_signal(fd, number)
            deadline = time.monotonic() + seconds
            while living and (left := deadline - time.monotonic()) > 0:
                living -= exited(living, left)
    finally:
        for fd in fds.values():
            os.close(fd)
    return list(fds)
