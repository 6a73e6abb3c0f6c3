"""Addresses by which boxes reach each other: HOST:PORT."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import Final

from lmxd.errors import LmxdError

_ADDRESS: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
NATS_PORT: Final = 4222
"""The usual port of NATS. The next one is the authority's, the one after that is for other brokers."""
DOOR_PORT: Final = 8443
"""The usual port of a node's door."""
_SOMEWHERE: Final = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737), to which nothing is sent."""


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT, the host without brackets. ValueError with a remedy."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ValueError("give HOST:PORT, such as 192.0.2.7:8443 or [2001:db8::7]:8443")
    return found[1].strip("[]"), int(found[2])


def joined(host: str, port: int) -> str:
    """HOST:PORT; an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bound(address: str) -> str:
    """The address to listen at, so that a box is reached at ``address``: all of its networks, or itself alone.

    A host name is not asked for: on many boxes their own name stands for 127.0.1.1.
    """
    host, port = host_and_port(address)
    try:
        number = ip_address(host)
    except ValueError:
        return f"127.0.0.1:{port}" if host == "localhost" else f"0.0.0.0:{port}"
    if number.is_loopback:
        return joined(host, port)
    return f"[::]:{port}" if number.version == 6 else f"0.0.0.0:{port}"


def own_host(towards: str | None = None) -> str:
    """The address that this box has towards HOST:PORT, or others. LmxdError ``config`` if there is no way there."""
    host, port = _SOMEWHERE if towards is None else host_and_port(towards)
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.connect(place)  # sends nothing
            return str(sock.getsockname()[0])
    except OSError as error:
        raise LmxdError("config", "the address of this box is not known", "say --address HOST") from error


def own_name() -> str:
    """The first label of this box's host name, as far as that may be the name of a node."""
    label = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63].strip("-") or "node"
