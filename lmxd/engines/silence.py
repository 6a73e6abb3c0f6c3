"""Connections to Unix sockets of engines that say nothing of their work: which may be at any.

The kernel counts no bytes there. But it knows how many wait to be read, at either end, and whether the engine computes.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lmxd.devices.processes import session_seconds
from lmxd.engines.connections import SocketLink, on_socket

SILENT: Final = 120.0
"""Seconds without a sign of work after which an open connection is idle: nothing was asked, or all is answered."""
_COMPUTES: Final = 0.02
"""Of one core: an engine that has nothing to do takes less, and one that answers, on whatever device, takes more."""
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(slots=True)
class Heard:
    """The signs of work at one socket: when each of its connections, by inode, had the last."""

    leader: int
    at: float
    computed: float
    last: dict[int, float] = field(default_factory=dict)


class Silences:
    """Looks at sockets from time to time, and remembers the signs of work. Blocks for milliseconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        links: Callable[[Path], list[SocketLink]] | None = None,
        computed: Callable[[int], float] = session_seconds,
    ) -> None:
        """``links``: the connections to a socket. ``computed``: seconds of processor time that a session has had."""
        self._clock = clock
        self._links = links or on_socket
        self._computed = computed
        self._heard: dict[Path, Heard] = {}

    def at_work(self, path: Path) -> int:
        """The connections that may be at work: they are new, or there was a sign of work lately. Raises OSError."""
        links = [link for link in self._links(path) if link.peer]
        if not links:
            self._heard.pop(path, None)
            return 0
        now = self._clock()
        heard = self._heard.get(path)
        if heard is None:
            leader = _session_of(path)
            heard = self._heard[path] = Heard(leader=leader, at=now, computed=self._computed(leader))
        computed = self._computed(heard.leader)
        computes = computed - heard.computed > _COMPUTES * (now - heard.at)
        heard.at, heard.computed = now, computed
        heard.last = {
            link.inode: now if computes or link.unread or link.untaken else heard.last.get(link.inode, now)
            for link in links
        }
        return sum(now - at < SILENT for at in heard.last.values())


def _session_of(path: Path) -> int:
    """The session of the process that listens at a socket. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1.0)
        asking.connect(str(path))
        pid, *_ = _CREDENTIALS.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return os.getsid(pid)
