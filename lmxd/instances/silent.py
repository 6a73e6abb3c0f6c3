"""Processes of instances that do not show whose they are: a program that sets its title overwrites its environment.

They are known by what a stranger cannot have: the log that lmxd opened for an instance as their output, or a place in
the session of one that has, or that lmxd has begun.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.instances import proc

_OUTPUTS: Final = (1, 2)
_HOW: Final = os.O_APPEND | os.O_WRONLY
"""As a log is opened for an instance. Who reads it, or another's shell that writes it anew, has it otherwise."""
Leader = tuple[int, int]
"""The pid of an instance's process, and the clock tick of its start."""


def silent(logs: Path, leaders: Mapping[str, Leader], pids: list[int]) -> dict[int, str]:
    """Of ``pids``, those of instances: pid -> the stem of the instance's log.

    ``leaders``: by the same stem, the processes that began the sessions of instances, in this boot.
    """
    files = dict(_identities(logs))
    found = {pid: stem for pid in pids if (stem := _by_log(pid, files))}
    sessions = {pid: stem for stem, (pid, born) in leaders.items() if _is_without(pid, born)}
    sessions |= {leader: stem for pid, stem in found.items() if (leader := _begun_by(pid, found))}
    oldest = {leader: leaders[stem][1] for leader, stem in sessions.items() if stem in leaders}
    for pid in pids:
        leader = proc.session_of(pid)
        if pid not in found and leader in sessions and (proc.born(pid) or 0) >= oldest.get(leader, 0):
            found[pid] = sessions[leader]
    return found


def _begun_by(pid: int, found: Mapping[int, str]) -> int | None:
    """The process that began the session of one of ``found``, if it is gone or is one itself, and not some shell."""
    leader = proc.session_of(pid)
    return leader if leader and (leader in found or not proc.lives(leader)) else None


def _identities(logs: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """The device and the inode of each log, and its stem."""
    for path in logs.glob("*.log"):
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                yield (found.st_dev, found.st_ino), path.stem


def _by_log(pid: int, files: Mapping[tuple[int, int], str]) -> str | None:
    """The log that a process appends its output to."""
    for fd in _OUTPUTS:
        with suppress(OSError, ValueError):
            found = os.stat(f"/proc/{pid}/fd/{fd}")
            stem = files.get((found.st_dev, found.st_ino))
            if stem is not None and _flags(pid, fd) & (os.O_ACCMODE | os.O_APPEND) == _HOW:
                return stem
    return None


def _flags(pid: int, fd: int) -> int:
    """The flags that a descriptor was opened with. Raises OSError and ValueError."""
    words = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()
    return int(words[words.index("flags:") + 1], 8)


def _is_without(pid: int, born: int) -> bool:
    """Returns whether a session that a process began is without it, and can only be that one.

    A pid is free when neither a process nor a session has it. Then another may begin a session of that number, and be
    gone, too: it has not, as long as the numbers have not gone round since the machine was started.
    """
    now = proc.born(pid)
    if now is not None:
        return now == born and not proc.lives(pid)  # a zombie has its pid still
    return proc.forks() < proc.most_pids()
