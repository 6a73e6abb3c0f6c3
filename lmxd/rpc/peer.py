"""The identity of a client: the credentials that the kernel has of its process. The client cannot choose them."""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass
from typing import Any

_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("iII")
_MAX_OPTION = 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a Unix socket: its pid, user and groups.

    ``listed``: the groups that the system's directory has ``uid`` in, whether or not the process has them. They give no
    rights. ``subordinate``: the uid that it connected with, if that is one of the subordinate uids of ``uid``.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    subordinate: int | None = None
    listed: frozenset[int] = frozenset()


def credentials(sock: Any) -> tuple[int, int, int]:
    """Pid, uid and gid of the process at the other end. Uids go to 2**32 - 2."""
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid


def peer_of(sock: Any) -> Peer:
    """The credentials of the process that connected, at the time at which it did."""
    pid, uid, gid = credentials(sock)
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_OPTION)
    except OSError:
        raw = b""  # more groups than Python's getsockopt can take: only the primary one counts
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Peer(pid, uid, gid, frozenset((gid, *groups)))


def is_gone(sock: Any) -> bool:
    """Whether the other end is closed, rather than only its sending half."""
    poller = select.poll()
    poller.register(sock.fileno(), 0)
    return any(event & select.POLLHUP for _, event in poller.poll(0))
