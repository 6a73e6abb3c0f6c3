"""Who listens on a port, by the kernel's word."""

from __future__ import annotations

import os
import socket

import pytest

from lmxd.instances.ports import at_port, listening_port, strangers

V4, V6 = socket.AF_INET, socket.AF_INET6


def listening(family: socket.AddressFamily, address: str, port: int = 0, *, only_v6: bool = False) -> socket.socket:
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == V6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    found.bind((address, port))
    found.listen()
    return found


@pytest.mark.parametrize(
    ("family", "address"),
    [(V4, "127.0.0.1"), (V4, "0.0.0.0"), (V6, "::"), (V6, "::ffff:127.0.0.1")],
)
def test_who_is_reached_by_loopback(family: socket.AddressFamily, address: str) -> None:
    with listening(family, address) as mine:
        port = mine.getsockname()[1]
        (found,) = at_port(port)
        assert (found.address, found.port, found.uid) == (address, port, os.getuid())
        assert strangers([found], [os.getpid()]) == []
        assert strangers([found], [os.getppid()]) == [found]
        assert str(found) == f"pid {os.getpid()} of uid {os.getuid()} listens on port {port} of {address}"
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize(("family", "address"), [(V6, "::1"), (V4, "127.0.0.2")])
def test_who_is_not(family: socket.AddressFamily, address: str) -> None:
    with listening(family, address) as other:
        assert at_port(other.getsockname()[1]) == []


def test_the_first_that_the_kernel_would_choose_is_meant() -> None:
    with listening(V4, "127.0.0.1") as first:
        port = first.getsockname()[1]
        with listening(V6, "::", port, only_v6=True), listening(V4, "127.0.0.2", port):
            assert [x.address for x in at_port(port)] == ["127.0.0.1"]


def test_nobody_listens_where_a_socket_is_only_bound() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert at_port(bound.getsockname()[1]) == []


def test_a_port_is_found_among_the_processes_sockets() -> None:
    with listening(V6, "::") as mine:
        assert listening_port([os.getpid()]) is not None
        assert mine.getsockname()[1] in {x.port for x in at_port(mine.getsockname()[1])}
