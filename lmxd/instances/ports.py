"""Listeners on local TCP ports, by the kernel's word: before anybody speaks to an instance there, it must be it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_LISTEN: Final = "0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
_REACHED: Final = ("127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::")  # noqa: S104 (nothing is bound here)
"""Addresses whose listener is reached by 127.0.0.1, the first that there is (__inet_lookup_listener in the kernel)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpListener:
    """A listening TCP socket of this machine."""

    address: str
    port: int
    uid: int
    inode: str

    def __str__(self) -> str:
        return f"{_owner(self)} listens on port {self.port} of {self.address}"


def listening_port(pids: Iterable[int]) -> int | None:
    """The first TCP port on which one of ``pids`` listens, where 127.0.0.1 reaches it, if any."""
    inodes = _sockets(pids)
    return next((found.port for found in _listeners() if found.inode in inodes and found.address in _REACHED), None)


def at_port(port: int) -> list[TcpListener]:
    """The listeners that 127.0.0.1 reaches on a port: one, or several that share it; none if nobody listens."""
    found = [listener for listener in _listeners() if listener.port == port]
    first = min((_REACHED.index(x.address) for x in found if x.address in _REACHED), default=None)
    return [] if first is None else [x for x in found if x.address == _REACHED[first]]


def strangers(found: Iterable[TcpListener], pids: Iterable[int]) -> list[TcpListener]:
    """Of listeners, those that belong to none of ``pids``."""
    inodes = _sockets(pids)
    return [listener for listener in found if listener.inode not in inodes]


def _listeners() -> Iterator[TcpListener]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/self/net/{table}") as file:
            next(file)
            for words in map(str.split, file):
                if words[3] != _LISTEN:
                    break  # they come first, and after them maybe thousands of connections
                address, _, port = words[1].rpartition(":")
                yield TcpListener(address=_readable(address), port=int(port, 16), uid=int(words[7]), inode=words[9])


def _readable(written: str) -> str:
    """An address as the kernel writes it, words of four bytes in the machine's order, as people do."""
    words = (int(written[at : at + 8], 16) for at in range(0, len(written), 8))
    raw = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _sockets(pids: Iterable[int]) -> set[str]:
    """The inodes of the sockets that processes have open."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    return inodes


def _owner(listener: TcpListener) -> str:
    """The process of a listener in words; root alone sees whose a socket of another user's is."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and listener.inode in _sockets((int(name),)):
            return f"pid {name} of uid {listener.uid}"
    return f"a process of uid {listener.uid}"
