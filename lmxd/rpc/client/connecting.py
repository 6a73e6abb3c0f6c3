"""The way onto a Unix socket whose server is busy: the kernel refuses at once if too many wait already."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Final

_PAUSE: Final = 0.01
"""Seconds between tries."""


def connect(path: Path | str, seconds: float) -> socket.socket:
    """A socket that is connected, without a timeout of its own. OSError if that takes longer than ``seconds``.

    The kernel itself waits, so that whoever came first is let in first. A timeout of Python's would have it not wait.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
        made.connect(str(path))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
    except OSError:
        made.close()
        raise
    return made


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


async def connect_soon(path: Path | str, seconds: float) -> socket.socket:
    """The same for asyncio, whose own way takes the refusal for a connection."""
    made, until = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), time.monotonic() + seconds
    made.setblocking(False)
    try:
        while True:
            try:
                made.connect(str(path))
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
            else:
                return made
            await asyncio.sleep(_PAUSE)
    except BaseException:
        made.close()
        raise
