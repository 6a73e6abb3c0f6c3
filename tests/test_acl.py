"""A second group on a socket and a directory, tried as users that are in one group, the other, or neither."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lmxd.acl import open_to

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be other users")
UID, MEMBERS, ADMINS, OTHERS = 64_310, 64_311, 64_312, 64_313
REFUSED = 13


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the group MEMBERS, opened to ADMINS, where anybody could come by."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o011)
    directory = tmp_path / "i"
    directory.mkdir()
    os.chown(directory, 0, MEMBERS)
    directory.chmod(0o750)
    open_to(directory, ADMINS)
    return directory


def connect(path: Path) -> None:
    socket.socket(socket.AF_UNIX).connect(str(path))


def read(path: Path) -> None:
    path.read_bytes()


def succeeds(act: Callable[[Path], None], path: Path, group: int) -> bool:
    """Whether a user with that one supplementary group can."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([group])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            act(path)
            status = 0
        except PermissionError:
            status = REFUSED
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, REFUSED)
    return status == 0


def bound(path: Path, umask: int) -> socket.socket:
    """A socket that listens, as an engine makes it."""
    before = os.umask(umask)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    os.umask(before)
    os.chown(path, 0, MEMBERS)
    sock.listen(8)
    return sock


def test_both_groups_connect_to_what_an_engine_makes_there_and_no_other(place: Path) -> None:
    with bound(place / "a.sock", 0o117):
        assert {g: succeeds(connect, place / "a.sock", g) for g in (MEMBERS, ADMINS, OTHERS)} == {
            MEMBERS: True,
            ADMINS: True,
            OTHERS: False,
        }


def test_a_file_for_its_owner_stays_that(place: Path) -> None:
    key = place / "a.key"
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    assert not any(succeeds(read, key, group) for group in (MEMBERS, ADMINS, OTHERS))


def test_a_socket_that_exists_is_opened_by_itself(place: Path) -> None:
    outside = place.parent / "lmxd.sock"
    with bound(outside, 0o117):
        assert not succeeds(connect, outside, ADMINS)
        open_to(outside, ADMINS)
        assert succeeds(connect, outside, ADMINS)
        assert succeeds(connect, outside, MEMBERS)
        assert not succeeds(connect, outside, OTHERS)
