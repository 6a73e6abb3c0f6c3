"""Processes that an earlier daemon of the same home has left: found by their environment, log or session, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.files import file_name
from lmxd.instances import proc
from lmxd.instances.environments import environments
from lmxd.instances.exits import exited
from lmxd.instances.shared_memory import SharedMemory
from lmxd.instances.silent import Leader, silent

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


def left_behind(
    home: Path, logs: Path, leaders: Mapping[str, Leader], kept: Set[str], engines: Set[int] = frozenset()
) -> dict[int, int | None]:
    """Living processes of ``home``'s instances, but of the ``kept``, and when each was born.

    They need not show whose they are. ``logs``: the directory of the instances' logs. ``leaders``: the processes that
    instances began with, in this boot.
    """
    ours = {os.geteuid(), *engines}
    born = {pid: proc.born(pid) for pid in _processes() if _belongs(pid, ours) and pid != os.getpid()}
    found = {pid for pid, env in orphans(home, engines).items() if env.get("LMXD_INSTANCE") not in kept}
    stems, begun = {file_name(name) for name in kept}, {file_name(name): leader for name, leader in leaders.items()}
    found |= {pid for pid, stem in silent(logs, begun, list(born)).items() if stem not in stems}
    return {pid: born[pid] for pid in found & born.keys()}


def end_orphans(doomed: Mapping[int, int | None], grace: float = 2.0) -> list[int]:
    """SIGTERM to those that were born then, after ``grace`` seconds SIGKILL; returns whom, once they are gone.

    What they shared goes with them. Only for the holder of the home's lock.
    """
    fds: dict[int, int] = {}
    shared = SharedMemory()
    for pid, born in doomed.items():
        if born is not None and (pidfd := proc.watch(pid, born)) is not None:
            fds[pid] = pidfd
    shared.see(fds)
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
    shared.remove()
    return list(fds)
