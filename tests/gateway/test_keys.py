"""Keys are shown once and kept as hashes; whoever is taken out of the file is out, whatever else is in it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import Caller, Keys, add
from lmxd.errors import LmxdError
from lmxd.gateway.requests.authentication import Authentication

NOBODY = 65534


def test_a_key_opens_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    alice, root = add(path, "alice", admin=False), add(path, "root", admin=True)
    keys = Keys(path)
    assert keys.caller(alice) == Caller("alice", admin=False)
    assert keys.caller(root) == Caller("root", admin=True)
    assert keys.caller(alice[:-1]) is None
    assert keys.caller("") is None
    assert alice not in path.read_text()


def test_a_new_key_of_a_name_ends_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old, other = add(path, "alice", admin=True), add(path, "bob", admin=False)
    new = add(path, "alice", admin=False)
    keys = Keys(path)
    assert keys.caller(old) is None
    assert keys.caller(new) == Caller("alice", admin=False)
    assert keys.caller(other) == Caller("bob", admin=False)


def test_comments_and_empty_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# who may come in\n")
    add(path, "alice", admin=False)
    assert path.read_text().startswith("# who may come in\nalice sha256:")
    Keys(path)


BAD = [b"alice\n", b"alice sha256:zz\n", b"alice sha256:" + b"0" * 64 + b" boss\n", b"\xff\x00\x1b[2J\n"]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_line_is_named_and_the_others_count(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys"
    kept = add(path, "bob", admin=False)
    written = path.read_bytes() + text
    path.write_bytes(written)
    keys = Keys(path)
    assert [problem.isprintable() for problem in keys.problems] == [True]
    assert f"{path}, line 2 is no key" in keys.problems[0]
    assert keys.caller(kept) == Caller("bob", admin=False)
    with pytest.raises(LmxdError, match="line 2"):
        add(path, "carol", admin=False)
    assert path.read_bytes() == written


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_a_comment_goes_to_the_end_of_the_line_that_an_editor_shows(tmp_path: Path, end: str) -> None:
    path = tmp_path / "keys"
    key = add(path, "eve", admin=False)
    path.write_text(f"# of last year:{end}{path.read_text()}", newline="")
    assert Keys(path).caller(key) is None


def test_a_key_in_two_lines_has_the_lesser_right(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = add(path, "alice", admin=True)
    path.write_text(path.read_text() + path.read_text().replace(" admin", ""))
    keys = Keys(path)
    assert keys.caller(key) == Caller("alice", admin=False)
    assert len(keys.problems) == 1


def test_any_header_at_all_is_only_a_key_that_nobody_has(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add(path, "alice", admin=False)
    keys = Keys(path)
    assert [keys.caller(key) for key in ("\udcff", "\ud800", "é", "\0", "x" * 100_000)] == [None] * 5


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="No such file"):
        Keys(tmp_path / "none")


def test_what_is_no_file_of_keys_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LmxdError, match="not a regular file"):
        Keys(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(LmxdError, match="more than 4 MiB"):
        Keys(tmp_path / "huge")


@pytest.mark.parametrize("name", ["", "a b", "-x", "ä", "a\nb"])
def test_a_name_that_would_not_be_read_back(tmp_path: Path, name: str) -> None:
    with pytest.raises(LmxdError, match="no name"):
        add(tmp_path / "keys", name, admin=False)


@pytest.mark.parametrize("spoilt", ["a bad line", "no file", "a file of others"])
def test_a_revocation_takes_effect_whatever_else_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    path = tmp_path / "keys"
    gone, kept = add(path, "gone", admin=True), add(path, "kept", admin=False)
    entry = Authentication(GatewayConfig(listen="127.0.0.1:1", keys_file=path))
    assert entry.known(gone) == Caller("gone", admin=True)
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "gone" not in line))
    if spoilt == "a bad line":
        path.write_text("not a line at all\n" + path.read_text())
        entry.refresh()
        assert entry.known(kept) == Caller("kept", admin=False)
        assert [(r.levelno, "line 1 is no key" in r.getMessage()) for r in caplog.records] == [(logging.ERROR, True)]
    else:
        path.unlink() if spoilt == "no file" else path.chmod(0o666)
        with pytest.raises(LmxdError):
            entry.refresh()
    assert entry.known(gone) is None


def test_a_key_that_was_added_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = add(path, "first", admin=False)
    entry = Authentication(GatewayConfig(listen="127.0.0.1:1", keys_file=path))
    second = add(path, "second", admin=True)
    entry.follow()
    assert entry.known("lmxd-wrong") is None
    assert entry.known(second) == Caller("second", admin=True)
    again = add(path, "first", admin=False)
    entry.follow()
    assert entry.known(again) == Caller("first", admin=False)
    assert entry.known(first) is None, "its name has another key"


def test_the_file_may_lie_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = add(Path("~/keys"), "me", admin=False)
    assert (tmp_path / "keys").exists()
    entry = Authentication(GatewayConfig(listen="127.0.0.1:1", keys_file=Path("~/keys")))
    assert entry.known(key) == Caller("me", admin=False)
    more = add(Path("~/keys"), "more", admin=False)
    entry.follow()
    assert entry.known(more) == Caller("more", admin=False)


def test_a_file_that_others_can_write_is_not_read_for_the_sake_of_a_wrong_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add(path, "one", admin=False)
    entry = Authentication(GatewayConfig(listen="127.0.0.1:1", keys_file=path))
    wanted = add(path, "two", admin=True)
    path.chmod(0o666)
    entry.follow()
    assert entry.known(wanted) is None


def test_a_link_that_another_user_laid_is_not_followed(tmp_path: Path) -> None:
    """In a directory that others may write, names that will be used can be guessed and taken."""
    path, victim = tmp_path / "keys", tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "keys.new").symlink_to(victim)
    (tmp_path / ".keys.lock").symlink_to(victim)
    with pytest.raises(LmxdError, match="symbolic links"):
        add(path, "alice", admin=False)
    (tmp_path / ".keys.lock").unlink()
    add(path, "alice", admin=False)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert (path.stat().st_mode & 0o777, path.stat().st_nlink) == (0o644, 1)


@pytest.mark.parametrize(
    ("what", "mode", "group", "match"),
    [
        ("keys", 0o666, 0, "can be written by others"),
        ("keys", 0o664, NOBODY, "can be written by others"),
        ("keys", 0o1666, 0, "can be written by others"),
        (".", 0o777, 0, "can be written by others"),
        (".", 0o775, NOBODY, "can be written by others"),
    ],
)
def test_keys_that_others_can_write_let_nobody_in(tmp_path: Path, what: str, mode: int, group: int, match: str) -> None:
    if os.geteuid():
        pytest.skip("only root gives files to other groups")
    path = tmp_path / "keys"
    add(path, "alice", admin=False)
    os.chown(tmp_path / what, 0, group)
    (tmp_path / what).chmod(mode)
    for use in (lambda: Keys(path), lambda: add(path, "bob", admin=False)):
        with pytest.raises(LmxdError, match=match):
            use()


def test_keys_of_another_user_let_nobody_in(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    path = tmp_path / "keys"
    add(path, "alice", admin=False)
    tmp_path.chmod(0o1777)
    Keys(path)  # nobody else can take its place there
    for taken in (path, tmp_path / ".keys.lock"):
        os.chown(taken, NOBODY, NOBODY)
        with pytest.raises(LmxdError, match=f"belongs to uid {NOBODY}"):
            add(path, "bob", admin=False)
        os.chown(taken, 0, 0)


def test_keys_that_are_added_at_once_all_count(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    program = "import sys, pathlib; from lmxd.config import keys"
    program += "; print(keys.add(pathlib.Path(sys.argv[1]), sys.argv[2], admin=False))"
    added = [
        subprocess.Popen([sys.executable, "-c", program, str(path), f"n{n}"], stdout=subprocess.PIPE, text=True)
        for n in range(8)
    ]
    keys = [process.communicate(timeout=60)[0].strip() for process in added]
    known = Keys(path)
    assert [known.caller(key) for key in keys] == [Caller(f"n{n}", admin=False) for n in range(8)]


def test_a_file_that_changes_is_followed_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no systemd is, nothing said how the gateway would hear of a new key."""
    path = tmp_path / "keys"
    first = add(path, "first", admin=False)
    entry = Authentication(GatewayConfig(listen="127.0.0.1:1", keys_file=path))
    second = add(path, "second", admin=True)
    entry.follow()
    assert [entry.known(key) for key in (first, second)] == [Caller("first", False), Caller("second", True)]
    path.chmod(0o666)
    entry.follow()
    entry.follow()
    assert [entry.known(key) for key in (first, second)] == [None, None]
    assert len([r for r in caplog.records if "no key is in force" in r.getMessage()]) == 1
    path.chmod(0o600)
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "first" not in line))
    entry.follow()
    assert [entry.known(key) for key in (first, second)] == [None, Caller("second", True)]
