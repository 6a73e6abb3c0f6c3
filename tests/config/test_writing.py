"""Files of people are replaced as a whole, with their mode, and nothing but a regular file is."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from lmxd.config.writing import may_write, write_own
from lmxd.errors import LmxdError


def test_a_new_file_has_the_mode_that_is_said_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_own(tmp_path / "of" / "all", "x", 0o644)
        write_own(tmp_path / "mine", "x")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("of/all", "mine")]
    assert modes == [0o644, 0o600]


def test_mode_owner_link_and_line_ends_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "config.yaml"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12345, 23456)
    before = real.stat()
    link = tmp_path / "config.yaml"
    link.symlink_to(real)
    write_own(link, "a\r\nb\n", 0o600)
    after = real.stat()
    assert link.is_symlink()
    assert real.read_bytes() == b"a\r\nb\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.listdir(real.parent) == ["config.yaml"]


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "socket"])
def test_what_is_no_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    """As root it could be replaced: /dev/null would be a file from then on."""
    path = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        target = tmp_path / "null"
        if os.geteuid() == 0:
            os.mknod(target, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        else:
            target = Path(os.devnull)
        path.symlink_to(target)
    before = path.stat()
    assert not may_write(path)
    with pytest.raises(LmxdError, match="not a regular file"):
        write_own(path, "x")
    assert path.stat()[:3] == before[:3]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_whether_a_user_may_write_is_known_before() -> None:
    """Its own files and new ones, where it may write the directory; root may write all."""
    with tempfile.TemporaryDirectory() as name:
        own, others = Path(name) / "own", Path(name) / "others"
        own.mkdir()
        others.mkdir()
        for directory in (Path(name), own):
            os.chown(directory, 12345, 12345)
        for path in (own / "a", own / "b", others / "c"):
            path.write_text("x")
        os.chown(own / "a", 12345, 12345)
        paths = [own / "a", own / "b", own / "new", own / "new/er", others / "c", others / "new"]
        assert all(map(may_write, paths))
        assert as_user(12345, paths) == [True, False, True, True, False, False]


def as_user(uid: int, paths: list[Path]) -> list[bool]:
    """The answers that another user's process has."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        return [may_write(path) for path in paths]
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def test_a_directory_that_cannot_be_written_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LmxdError, match="Not a directory"):
        write_own(tmp_path / "file" / "config.yaml", "x")


def test_links_that_somebody_lays_meanwhile_give_no_right_to_what_they_lead_to(tmp_path: Path) -> None:
    """Root may write into a directory of an ordinary user, who lays links for as long as it takes."""
    secret, place = tmp_path / "secret", tmp_path / "theirs"
    secret.write_text("s")
    secret.chmod(0o600)
    place.mkdir()
    done = threading.Event()

    def lay() -> None:
        while not done.is_set():
            for name in os.listdir(place):
                with suppress(OSError):
                    (place / name).unlink()
                    (place / name).symlink_to(secret)

    layer = threading.Thread(target=lay)
    layer.start()
    try:
        for number in range(200):
            with suppress(LmxdError):  # it was taken away, and that is said
                write_own(place / f"config{number}", "x", 0o644)
    finally:
        done.set()
        layer.join()
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("s", 0o600)
