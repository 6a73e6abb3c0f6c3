"""The files of an instance in the daemon's home: its key, its socket, its temporary directory. They go with it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.engines.launching import key_path, record_path, socket_path, temporary_path
from lmxd.files import remove_tree
from lmxd.instances.shared_memory import SharedMemory

log = logging.getLogger(__name__)

_DIRECTORY: Final = re.compile("t-[0-9a-f]{10}|[0-9a-f]{14}|.*#.*|%[0-9a-f]{64}", re.DOTALL)
"""Names of directories that are made for instances: their ids have a # in them."""
_FILES: Final = (".key", ".sock", ".shm")


def make_temporary(home: Path, instance: str, account: SystemUser | None) -> None:
    """Make an empty directory for an instance's temporary files, for the user that it runs as. Raises OSError."""
    path = temporary_path(home, instance)
    remove_tree(path)
    path.mkdir(mode=0o700)
    if account is not None:
        os.chown(path, account.uid, -1, follow_symlinks=False)


def forget(home: Path, instance: str) -> None:
    """Remove what an instance had: nobody answers there any more."""
    _remove(_of(home, instance))


def sweep(home: Path, kept: Set[str]) -> None:
    """Remove what instances had that are not ``kept``. Only for the holder of the home's lock."""
    mine = {path for instance in kept for path in _of(home, instance)}
    _remove({path for path in home.iterdir() if _is_ours(path)} - mine)


def _is_ours(path: Path) -> bool:
    return path.suffix in _FILES or (bool(_DIRECTORY.fullmatch(path.name)) and path.is_dir())


def _of(home: Path, instance: str) -> set[Path]:
    socket = socket_path(home, instance)
    directories = (socket.parent, temporary_path(home, instance))
    return {key_path(home, instance), record_path(home, instance), home / f"{instance}.sock", *directories}


def _remove(paths: Set[Path]) -> None:
    for path in paths:
        if path.suffix == ".shm":
            SharedMemory(path).remove()  # who shared that is gone, and the record is known to be ours
        elif path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            with suppress(OSError):
                path.unlink()
