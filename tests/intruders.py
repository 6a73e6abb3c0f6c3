"""Somebody who listens on a port, as an instance would: whatever it is told, it was told too much."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def intruder(port: int, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A listening socket of this process."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen()
        listening.setblocking(False)
        yield listening


def was_spoken_to(listening: socket.socket) -> bool:
    """Whether anybody has connected to it."""
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True
