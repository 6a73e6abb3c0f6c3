"""All bounds together, for a process that reads a file that nobody vouches for."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.confinement import landlock, seccomp
from lmxd.confinement.landlock import Right

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
"""CLONE_NEWUSER and CLONE_NEWNET of unshare(2)."""
_DATA: Final = 16 * 2**30
"""Bytes of memory of its own: twenty times what the largest vocabulary takes."""
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/sys/devices/system", "/proc/cpuinfo", "/proc/meminfo")
"""Everybody may read them: libraries, and facts about the machine."""


def confine(allowed: Mapping[Path, Right], *, memory: int, seconds: int) -> None:
    """Confine this process for good; it has no other thread yet.

    It may use the ``allowed`` files and read the system's libraries, have so many bytes of address space and seconds
    of processor time, and threads. It writes no file, starts no process, connects to nothing and gains no privilege.
    What this kernel cannot hold is left out: ``gaps`` says it. Raises OSError if it can, and does not.
    """
    with suppress(OSError):  # it is the first to go when memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000")
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, _DATA),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
    ):
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)  # nobody raises a limit
        resource.setrlimit(limit, (most, most))
    libc = ctypes.CDLL(None)
    if libc.unshare(_NEW_NETWORK) != 0:  # without privileges it takes a user namespace, where they are allowed
        libc.unshare(_NEW_USER | _NEW_NETWORK)
    landlock.restrict(dict.fromkeys(map(Path, _SYSTEM), landlock.RUN) | dict(allowed))
    seccomp.restrict()


def gaps() -> Iterator[str]:
    """One sentence for each thing that cannot be held here."""
    if not landlock.version():
        yield (
            "this kernel has no Landlock (5.13, lsm=landlock): a model file that takes over a dry run could read the"
            " keys of instances and change lmxd's files"
        )
    if not seccomp.available():
        yield (
            "this kernel has no system call filters, or not for this processor: a model file that takes over a dry run"
            " could connect to sockets and leave processes behind"
        )
