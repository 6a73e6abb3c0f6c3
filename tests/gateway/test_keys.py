"""Keys are shown once and kept as hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmxd.errors import LmxdError
from lmxd.gateway.keys import Caller, Keys, add


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


@pytest.mark.parametrize("text", ["alice\n", "alice sha256:zz\n", "alice sha256:" + "0" * 64 + " boss\n"])
def test_a_bad_line_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text("\n" + text)
    with pytest.raises(LmxdError, match="line 2"):
        Keys(path)
    with pytest.raises(LmxdError, match="line 2"):
        add(path, "bob", admin=False)
    assert path.read_text() == "\n" + text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LmxdError, match="No such file"):
        Keys(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "a b", "-x", "ä", "a\nb"])
def test_a_name_that_would_not_be_read_back(tmp_path: Path, name: str) -> None:
    with pytest.raises(LmxdError, match="no name"):
        add(tmp_path / "keys", name, admin=False)
