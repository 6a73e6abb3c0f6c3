"""Which connections to an engine's Unix socket may be at work: no bytes are counted there, but silence is heard."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lmxd.engines.connections import SocketLink, on_socket
from lmxd.engines.silence import SILENT, Silences


class Machine:
    """A socket with connections, whose engine computes."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.seconds = 0.0
        self.links: list[SocketLink] = []
        self.path = path
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(64)
        self.silences = Silences(lambda: self.now, lambda path: self.links, lambda leader: self.seconds)

    def at_work(self, after: float = 0.0, computing: float = 0.0) -> int:
        """How many are at work after so many seconds, of which an engine has computed for so many."""
        self.now += after
        self.seconds += computing
        return self.silences.at_work(self.path)

    def looked_at(self, seconds: float, computing: float = 0.0) -> int:
        """The same, if it was looked at every ten seconds meanwhile."""
        for _ in range(int(seconds / 10)):
            found = self.at_work(10.0, computing * 10)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "s")


def link(inode: int, *, peer: bool = True, unread: int = 0, untaken: int = 0) -> SocketLink:
    return SocketLink(inode=inode, peer=peer, unread=unread, untaken=untaken)


def test_a_connection_over_which_nothing_is_asked_is_no_work_for_long(machine: Machine) -> None:
    machine.links = [link(1)]
    assert machine.at_work() == 1
    assert machine.looked_at(SILENT - 10) == 1
    assert machine.looked_at(20) == 0
    machine.links += [link(2)]
    assert machine.at_work() == 1, "a new one may be about to ask"


def test_while_the_engine_computes_any_of_them_may_wait_for_it(machine: Machine) -> None:
    machine.links = [link(1), link(2)]
    assert machine.looked_at(3600, computing=0.1) == 2
    assert machine.looked_at(SILENT + 10, computing=0.001) == 0, "what a server does that has nothing to do"
    assert machine.looked_at(10, computing=0.5) == 2


@pytest.mark.parametrize(("unread", "untaken"), [(300, 0), (0, 5)])
def test_bytes_that_wait_are_work(machine: Machine, unread: int, untaken: int) -> None:
    machine.links = [link(1, unread=unread, untaken=untaken), link(2)]
    assert machine.looked_at(3600) == 1


def test_nobody_at_the_other_end_waits_for_an_answer(machine: Machine) -> None:
    machine.links = [link(1, peer=False, unread=300)]
    assert machine.at_work() == 0


def test_the_kernel_says_what_waits_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
        with server.accept()[0] as accepted:
            (quiet,) = on_socket(path)
            assert (quiet.peer, quiet.unread, quiet.untaken) == (True, 0, 0)
            client.sendall(b"abc")
            assert [x.unread for x in on_socket(path)] == [3]
            accepted.recv(10)
            accepted.sendall(b"de")
            (answered,) = on_socket(path)
            assert answered.inode == quiet.inode
            assert answered.unread == 0
            assert answered.untaken > 0
            client.recv(10)
            assert [x.untaken for x in on_socket(path)] == [0]
            client.close()
            assert [x.peer for x in on_socket(path)] == [False]


def test_it_looks_at_the_processes_of_the_one_that_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
        server.accept()[0].close()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(path))
            with server.accept()[0]:
                assert Silences().at_work(path) == 1
