"""Connections to an engine that says nothing of its work: the kernel knows which have asked for any (sock_diag(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUIET: Final = 15.0
"""Seconds without a byte after which an answered connection is idle: between two tokens of a stream there are fewer."""
OWED: Final = 600.0
"""Seconds for which an answer may be owed: a long one that comes as a whole. Half a request is no work for ever."""

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_DUMP: Final = 0x301
"""NLM_F_REQUEST and NLM_F_DUMP."""
_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_ESTABLISHED: Final = 1 << 1
_ANY_COOKIE: Final = b"\xff" * 8
_INET_INFO: Final = 2
_SHOW: Final = 1 << 1 | 1 << 2 | 1 << 4
"""UDIAG_SHOW_VFS, _PEER and _RQLEN of linux/unix_diag.h."""
_UNIX_VFS, _UNIX_PEER, _UNIX_QUEUES = 1, 2, 4
_INET_BODY, _UNIX_BODY = 72, 16
"""Bytes of an answer before its attributes: struct inet_diag_msg and struct unix_diag_msg."""
_LAST_SENT, _LAST_RECEIVED, _BYTES_RECEIVED, _BYTES_SENT = 44, 52, 128, 200
"""Offsets in struct tcp_info (linux/tcp.h): milliseconds since the last of both, and the bytes each way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """The traffic of one TCP connection, seen by its server: bytes, and seconds since the last, each way."""

    received: int
    sent: int
    since_sent: float
    since_received: float

    @property
    def is_work(self) -> bool:
        """Whether it has asked for something, and is being answered or was a moment ago."""
        if not self.received:
            return False
        owed = self.since_received < self.since_sent
        return min(self.since_sent, self.since_received) < QUIET or (owed and self.since_received < OWED)

    @property
    def is_answered(self) -> bool:
        """Whether bytes went both ways, and the server sent some a moment ago. Half a request is no proof of work."""
        return self.received > 0 and self.sent > 0 and self.since_sent < QUIET


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketLink:
    """One connection to a Unix socket, seen by its server, by its ``inode``.

    ``peer``: whether there is anybody at the other end. ``unread`` bytes wait for the server, ``untaken`` ones for the
    peer; the kernel counts none of those that have passed.
    """

    inode: int
    peer: bool
    unread: int
    untaken: int


def on_port(port: int) -> list[Traffic]:
    """The traffic of each connection to a local TCP port. Raises OSError."""
    where = struct.pack("!HH", port, 0) + bytes(36) + _ANY_COOKIE
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        head = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 1 << (_INET_INFO - 1), _ESTABLISHED)
        for message in _dump(head + where):
            info = _attributes(message, _INET_BODY).get(_INET_INFO)
            if info is not None:
                found.append(_traffic(info))
    return found


def on_socket(path: Path) -> list[SocketLink]:
    """The connections to a Unix socket. Raises OSError."""
    there = path.stat()
    mine = (there.st_ino, os.major(there.st_dev) << 20 | os.minor(there.st_dev))  # as the kernel writes a device
    request = struct.pack("=BBHIII", socket.AF_UNIX, 0, 0, _ESTABLISHED, 0, _SHOW) + _ANY_COOKIE
    found = []
    for message in _dump(request):
        about = _attributes(message, _UNIX_BODY)
        place, queues = about.get(_UNIX_VFS, b""), about.get(_UNIX_QUEUES, bytes(8))
        if len(place) >= 8 and struct.unpack_from("=II", place) == mine:
            unread, untaken = struct.unpack_from("=II", queues)
            (inode,) = struct.unpack_from("=I", message, 4)
            peer = any(about.get(_UNIX_PEER, b""))  # the inode of one that has closed is 0
            found.append(SocketLink(inode=inode, peer=peer, unread=unread, untaken=untaken))
    return found


def _traffic(info: bytes) -> Traffic:
    def number(offset: int, kind: str) -> int:
        return int(struct.unpack_from(kind, info, offset)[0])

    return Traffic(
        received=number(_BYTES_RECEIVED, "=Q"),
        sent=number(_BYTES_SENT, "=Q"),
        since_sent=number(_LAST_SENT, "=I") / 1000,
        since_received=number(_LAST_RECEIVED, "=I") / 1000,
    )


def _dump(request: bytes) -> Iterator[bytes]:
    """The kernel's answers to a question about sockets. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _DUMP, 1, 0) + request)
        while True:
            data = memoryview(kernel.recv(2**18))
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                body = bytes(data[_HEADER.size : length])
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -int(struct.unpack_from("=i", body)[0])
                    raise OSError(code, os.strerror(code))
                yield body
                data = data[_aligned(length) :]


def _attributes(message: bytes, offset: int) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        found[kind] = message[offset + 4 : offset + length]
        offset += _aligned(max(length, 4))
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
