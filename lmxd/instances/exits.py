"""Reads from a pidfd how a process ended, whoever its parent is."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Iterable
from typing import Final

_INFO: Final = struct.Struct("=QQ11Ii")
"""mask, cgroupid, eleven ids, exit_code: struct pidfd_info, 64 bytes."""
_GET_INFO: Final = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
_EXIT: Final = 1 << 3
"""PIDFD_GET_INFO as an ioctl, and PIDFD_INFO_EXIT (linux/pidfd.h)."""


def exited(pidfds: Iterable[int], timeout: float = 0.0) -> set[int]:
    """The pidfds of exited processes; waits up to ``timeout`` seconds for one. Not select(2), which ends at 1024."""
    poller = select.poll()
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    return {pidfd for pidfd, _ in poller.poll(timeout * 1000)}


def status(pidfd: int) -> int | None:
    """The exit code, or minus the signal, of one that is not our child; None if the kernel does not say it (yet).

    PIDFD_GET_INFO of Linux 6.15 and newer.
    """
    buffer = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, code = _INFO.unpack(buffer)
    return os.waitstatus_to_exitcode(code) if mask & _EXIT else None
