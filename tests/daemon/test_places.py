"""The daemon's directories are its own: none that others could have put there, or could put another in the place of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lmxd.daemon.places import Places, occupy, places
from lmxd.errors import LmxdError


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


def test_a_sticky_directory_of_all_is_no_danger(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with occupy(where(tmp_path)):
        assert where(tmp_path).home.is_dir()
