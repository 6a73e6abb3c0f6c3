"""The daemon's directories are its own: none that others could have put there, or could put another in the place of."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmxd.daemon.places import Places, listen, occupy, places
from lmxd.errors import LmxdError
from lmxd.rpc.client import default_socket
from lmxd.rpc.client.wire import unavailable


def where(directory: Path) -> Places:
    return places(directory / "s", user=False)


def linked(found: Places) -> None:
    (found.home.parent / "elsewhere").mkdir()
    found.home.symlink_to(found.home.parent / "elsewhere")


def logs_linked(found: Places) -> None:
    found.home.mkdir(0o750)
    found.logs.symlink_to(found.home.parent)


def open_to_all(found: Places) -> None:
    found.home.mkdir()
    found.home.chmod(0o777)


def logs_open_to_all(found: Places) -> None:
    found.home.mkdir(0o750)
    found.logs.mkdir()
    found.logs.chmod(0o777)


def replaceable(found: Places) -> None:
    found.home.parent.chmod(0o777)


@pytest.mark.parametrize("make", [linked, logs_linked, open_to_all, logs_open_to_all, replaceable])
def test_directories_of_others_are_refused(tmp_path: Path, make: Callable[[Places], None]) -> None:
    found = where(tmp_path)
    make(found)
    with pytest.raises(LmxdError, match=r"can be written by others|is not a directory itself") as caught, occupy(found):
        pass
    assert caught.value.code == "config"
    assert "--socket" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("which", ["home", "logs", "state", "parent"])
def test_directories_that_another_user_owns_are_refused(tmp_path: Path, which: str) -> None:
    found = where(tmp_path)
    with occupy(found):
        pass
    os.chown(found.home.parent if which == "parent" else getattr(found, which), 65534, 65534)
    with pytest.raises(LmxdError, match="can be written by others"), occupy(found):
        pass


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


@pytest.mark.parametrize("mask", [0o002, 0o000, 0o022, 0o077])
def test_it_starts_whatever_the_umask_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], object], mask: int
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home/.local/state"))
    umask(mask)
    found = places(None, user=True)
    for _ in range(2):  # the second time they are there
        with occupy(found):
            modes = {path: path.stat().st_mode & 0o777 for path in (found.home, found.state, found.logs)}
    assert set(modes.values()) == {0o750}
    assert not found.state.parent.stat().st_mode & 0o022, "nor can others replace them"


def test_without_a_login_the_socket_is_among_what_the_user_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], object]
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("LMXD_SOCKET", raising=False)
    with tempfile.TemporaryDirectory() as home:  # with a short name, as a home has
        monkeypatch.setenv("XDG_STATE_HOME", home)
        umask(0o002)
        with occupy(found := places(None, user=True)), listen(found):
            assert default_socket() == found.socket
            for directory in (found.home, found.state, found.logs, found.socket.parent):
                assert directory.stat().st_mode & 0o777 == 0o750


def test_without_a_daemon_it_is_said_how_either_is_started(tmp_path: Path) -> None:
    remedy = unavailable(tmp_path / "s", FileNotFoundError()).remedy or ""
    assert "systemctl start lmxd, or lmxd --user;" in remedy


def test_a_narrow_umask_shuts_out_no_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Callable[[int], object]
) -> None:
    for name in ("RUNTIME", "LOGS", "STATE"):
        monkeypatch.setenv(f"{name}_DIRECTORY", str(tmp_path / name[0] / "lmxd"))
    umask(0o077)
    with occupy(found := places(None, user=False)):
        assert found.socket.parent.stat().st_mode & 0o777 == 0o755


def test_directories_that_an_older_lmxd_opened_to_the_users_own_group_are_taken(tmp_path: Path) -> None:
    """It made them by umask 0002, and then would not have them."""
    (found := where(tmp_path)).home.mkdir()
    os.chown(found.home, -1, pwd.getpwuid(os.getuid()).pw_gid)
    found.home.chmod(0o775)
    with occupy(found):
        assert found.state.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_group_that_others_are_in_is_others(tmp_path: Path) -> None:
    (found := where(tmp_path)).home.mkdir()
    os.chown(found.home, -1, next(x.gr_gid for x in grp.getgrall() if x.gr_gid != os.getgid()))
    found.home.chmod(0o770)
    with pytest.raises(LmxdError, match="can be written by others"), occupy(found):
        pass


def test_a_sticky_directory_of_all_is_no_danger(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with occupy(where(tmp_path)):
        assert where(tmp_path).home.is_dir()
