"""Which connections to an engine are at work, by the kernel's word."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from waiting import wait_until

from lmxd.engines.connections import OWED, QUIET, Traffic, on_port, on_socket


@pytest.mark.parametrize(
    ("received", "since_sent", "since_received", "is_work"),
    [
        (0, 0.0, 0.0, False),  # it was just accepted
        (0, 1e6, 1e6, False),
        (10, 5.0, 0.0, True),  # it has just asked
        (10, OWED - 1, OWED - 2, True),  # it has waited long for its answer
        (10, OWED + 2, OWED + 1, False),  # half a request, ages ago
        (10, 0.0, 100.0, True),  # a stream
        (10, QUIET - 1, QUIET, True),  # it was answered a moment ago
        (10, QUIET + 1, QUIET + 2, False),  # it is kept alive
    ],
)
def test_work_is_a_question_and_its_answer(
    received: int, since_sent: float, since_received: float, is_work: bool
) -> None:
    seen = Traffic(received=received, sent=0, since_sent=since_sent, since_received=since_received)
    assert seen.is_work is is_work


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_knows_what_a_connection_was_sent(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        assert on_port(port) == []
        with socket.create_connection((address, port)) as client, server.accept()[0] as accepted:
            assert [x.received for x in on_port(port)] == [0]
            client.sendall(b"abc")
            wait_until(lambda: [x.received for x in on_port(port)] == [3])
            (asked,) = on_port(port)
            assert asked.is_work
            assert not asked.is_answered, "anybody can send a byte"
            accepted.sendall(b"xy")
            wait_until(lambda: [x.sent for x in on_port(port)] == [2])
            assert on_port(port)[0].is_answered
            wait_until(lambda: on_port(port)[0].since_sent < asked.since_sent + QUIET)
            with socket.create_connection((address, port)):
                wait_until(lambda: len(on_port(port)) == 2)
                assert sum(x.is_work for x in on_port(port)) == 1


def test_connections_to_a_socket_are_counted_by_its_file(tmp_path: Path) -> None:
    """A name can be forged: any user may bind a socket called as ours, with lines of /proc/net/unix in it."""
    path, other = tmp_path / "s", tmp_path / "o"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as elsewhere:
        for listening, where in ((server, path), (elsewhere, other)):
            listening.bind(str(where))
            listening.listen()
        with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as stray:
            assert on_socket(path) == []
            stray.connect(str(other))
            assert on_socket(path) == []
            client.connect(str(path))
            with server.accept()[0]:
                assert len(on_socket(path)) == 1
            assert on_socket(path) == []
