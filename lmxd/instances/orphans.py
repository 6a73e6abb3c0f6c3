"""Processes that an earlier daemon of the same home has left: found by their environment, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.instances import proc
from lmxd.instances.environments import environments
from lmxd.instances.exits import exited

_MOST_LATE: Final = 3
"""Other users' processes that are waited for: any user can have thousands that never show their environment."""


def orphans(home: Path, engines: Set[int] = frozenset()) -> dict[int, dict[str, str]]:
    """Living processes that were started for ``home``: pid -> environment.

    They run as our own user, or as one of ``engines``. A process shows what it likes for its environment.
    """
    ours = {os.geteuid(), *engines}
    claim = _claimants(home, [pid for pid in _processes() if _belongs(pid, ours)])
    return {pid: env for pid, env in claim.items() if _belongs(pid, ours)}


def impostors(home: Path, engines: Set[int] = frozenset()) -> list[int]:
    """Processes of other users that say so all the same. Of those that do not show it in time few are waited for."""
    ours = {os.geteuid(), *engines}
    others = [pid for pid in _processes() if not _belongs(pid, ours)]
    return sorted(pid for pid in _claimants(home, others, most_late=_MOST_LATE) if not _belongs(pid, ours))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _belongs(pid: int, users: Set[int]) -> bool:
    return bool(ids := proc.uids(pid)) and ids <= users


def _claimants(home: Path, pids: list[int], most_late: int | None = None) -> dict[int, dict[str, str]]:
    found = environments(pids, most_late=most_late)
    return {pid: env for pid, env in found.items() if env.get("LMXD_HOME") == str(home)}


def end_orphans(
    home: Path, kept: Set[str] = frozenset(), grace: float = 2.0, engines: Set[int] = frozenset()
) -> list[int]:
    """SIGTERM to all but the ``kept`` instances', after ``grace`` seconds SIGKILL; returns whom, once they are gone.

    Only for the holder of the home's lock.
    """
    fds: dict[int, int] = {}
    for pid, env in orphans(home, engines).items():
        if env.get("LMXD_INSTANCE") not in kept:
            with suppress(OSError):
                fds[pid] = os.pidfd_open(pid)
                if not proc.uids(pid) <= {os.geteuid(), *engines}:  # the pid is another's by now
                    os.close(fds.pop(pid))
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
