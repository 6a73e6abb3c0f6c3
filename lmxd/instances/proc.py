"""Facts from /proc: which boot this is, when each process was born, who descends from whom."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

_ENVIRONMENT: Final = 2**20
"""Bytes of an environment that are looked at. Ours are a few thousand."""
_STAT: Final = 4096
"""More bytes than that file has: 52 numbers and a name."""
_ANY: Final = "surrogateescape"
"""For text with a process's name in it: any user may give their process any bytes for a name."""


def boot() -> str:
    """Names the current boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def born(pid: int) -> int | None:
    """The clock tick of its start; None if there is no such process. A zombie still has one."""
    words = _stat(pid)
    return int(words[19]) if words else None


def watch(pid: int, born_at: int) -> int | None:
    """A pidfd of the process that was born then; None if it is gone, though its pid may be another's."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if born(pid) == born_at:  # asked after the pidfd was opened: from here on it cannot be another
        return pidfd
    os.close(pidfd)
    return None


def exit_status(pid: int) -> int | None:
    """The exit status of a process, as long as its parent has not taken note: the code, or minus the signal."""
    words = _stat(pid)
    return os.waitstatus_to_exitcode(int(words[49])) if len(words) > 49 and words[0] == "Z" else None


def expose(pid: int) -> None:
    """Let it go before the daemon when memory runs out: it has inherited the daemon's oom_score_adj."""
    with suppress(OSError):
        path = Path(f"/proc/{pid}/oom_score_adj")
        if int(path.read_text()) < 0:
            path.write_text("0")


def lives(pid: int) -> bool:
    """Returns whether there is such a process, and it has not exited."""
    words = _stat(pid)
    return bool(words) and words[0] != "Z"


def session(leader: int) -> Iterator[int]:
    """The living processes of a session, without its leader."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != leader:
            words = _stat(int(name))
            if words and int(words[3]) == leader and words[0] != "Z":
                yield int(name)


def session_of(pid: int) -> int | None:
    """The number of the session that a process is in, which was its leader's pid; None if it is gone."""
    words = _stat(pid)
    return int(words[3]) if words else None


def tree(pid: int) -> set[int]:
    """A process and all its living descendants."""
    return below(pid, children())


def children() -> dict[int, list[int]]:
    """The children of every process that has any, from one pass: it costs the same for whatever threads they have."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (words := _stat(int(name))):
            found.setdefault(int(words[1]), []).append(int(name))
    return found


def above(pid: int, children: Mapping[int, Iterable[int]]) -> list[int]:
    """The parent of a process by ``children``, its parent, and so on."""
    parents, found = {child: parent for parent, of in children.items() for child in of}, [pid]
    while (parent := parents.get(found[-1])) is not None:
        found.append(parent)
        del parents[found[-2]]  # a process may have another's pid by now: no circle is walked twice
    return found[1:]


def below(pid: int, children: Mapping[int, Iterable[int]], but: Set[int] = frozenset()) -> set[int]:
    """A process, and all that descend from it by ``children``, without those of ``but`` and what is below them."""
    found, rest = {pid}, [pid]
    while rest:
        new = set(children.get(rest.pop(), ())) - found - but
        found |= new
        rest += new
    return found


def forks() -> int:
    """The number of processes and threads that were begun since the machine was started; each got a pid."""
    words = Path("/proc/stat").read_text().split()
    return int(words[words.index("processes") + 1])


def most_pids() -> int:
    """The number of pids that are given before one is given again."""
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def uids(pid: int) -> frozenset[int]:
    """The real, effective, saved and file system uid of a process; empty if it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/status", errors=_ANY) as file:
        for line in file:
            if line.startswith("Uid:"):
                return frozenset(map(int, line.split()[1:]))
    return frozenset()


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with, as it shows it; empty if it is gone or another user's."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (os.fsdecode(word).partition("=") for word in file.read(_ENVIRONMENT).split(b"\0"))
        return {name: value for name, _, value in pairs}
    return {}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, ppid, pgrp, session … A name may hold anything."""
    try:  # of each process of the machine, once a second: a file object would take twice the calls
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(file, _STAT).decode(errors=_ANY).rpartition(")")[2].split()
    except OSError:
        return []
    finally:
        os.close(file)
