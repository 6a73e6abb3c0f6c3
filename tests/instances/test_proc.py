"""Processes of other users, which may have any name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lmxd.devices import processes
from lmxd.devices.host import HostProbe
from lmxd.instances import proc

NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0)
print("named", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[b"\xff", b"\xff) Z 1 (\n", b") R 1", b"\x80\n\nUid:\t7", b""], ids=ascii)
def named(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with such a name."""
    words = [sys.executable, "-S", "-c", NAMED, request.param.hex()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"named\n"
        yield child.pid
        child.kill()


def test_whatever_its_name_a_process_is_what_it_is(named: int) -> None:
    assert named in proc.children()[os.getpid()]
    assert named in proc.tree(os.getpid())
    assert proc.lives(named)
    assert (proc.born(named) or 0) > 0
    assert proc.uids(named) == {os.getuid()}
    assert named in set(proc.session(os.getsid(named)))
    assert isinstance(processes.name(named), str)
    (host,) = HostProbe().measure({named})
    assert host.processes is not None
    assert host.processes[named].total > 0
