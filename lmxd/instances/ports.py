"""The loopback port on which a process listens, asked of the kernel: no port has to be chosen and raced for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

_LISTEN = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""


def listening_port(pids: Iterable[int]) -> int | None:
    """The first TCP port on which one of ``pids`` listens, if any."""
    for pid in pids:
        inodes = _socket_inodes(pid)
        with suppress(OSError), open(f"/proc/{pid}/net/tcp") as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and words[9] in inodes:
                    return int(words[1].split(":")[1], 16)
    return None


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes
