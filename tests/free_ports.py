"""Ports for servers of tests that are started later.

A port that the kernel gives out is one that it may give to somebody's connection before the server is there, on a busy
machine half a minute later. These lie below that range.
"""

from __future__ import annotations

import os
import socket
from itertools import count

_FIRST, _COUNT = 20000, 12000
_ahead = count(os.getpid() * 997)
"""Ports to be tried: each process of tests begins elsewhere."""


def free_ports(number: int) -> int:
    """The first of so many free ports in a row."""
    for _ in range(1000):
        ports = [_FIRST + next(_ahead) % _COUNT for _ in range(number)]
        if ports[-1] - ports[0] == number - 1 and all(map(_is_free, ports)):
            return ports[0]
    raise AssertionError("there are no free ports")


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
