"""Doorways: the directories through which engines read and write what slots have.

An engine is told of one directory when it starts, and whoever has its key may then have it read and write there. So
that directory exists only while lmxd itself has files read or written, and the engine can make no others in it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from lmxd.accounts import SystemUser

T = TypeVar("T")

SUFFIX: Final = ".door"
_LOOK: Final = 0.05
"""Seconds between looks at the size of what an engine writes."""
_BLOCK: Final = 4096
"""Bytes that a file and a directory count as at least: else there could be any number of them."""


class Doorway:
    """The doorway of one instance, open or shut. ``turn`` is for who uses it while the instance serves."""

    def __init__(self, path: Path, account: SystemUser | None = None) -> None:
        """``account``: the user that the engine runs as; None for ours."""
        self.path = path
        self.turn = asyncio.Lock()
        self._account = account

    def open(self) -> None:
        """Make it, empty, and closed to the engine yet. Raises OSError."""
        self.shut()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)

    def offer(self, name: str, file: Path) -> None:
        """Let a file of the engine's be read there. Raises OSError."""
        os.link(file, self.path / name, follow_symlinks=False)

    def make(self, name: str) -> None:
        """Make an empty file for the engine to write. Raises OSError."""
        (self.path / name).touch(0o600, exist_ok=False)
        self.hand_over(self.path / name)

    def admit(self) -> None:
        """Let the engine in: it finds the files that there are, and can make no others. Raises OSError."""
        self.path.chmod(0o500)
        self.hand_over(self.path)

    def hand_over(self, path: Path) -> None:
        """Make a file, or what stands at its place, the engine's. Raises OSError."""
        if self._account is not None:
            os.chown(path, self._account.uid, -1, follow_symlinks=False)

    def take(self, name: str, file: Path) -> None:
        """Take a file that was written out of it, to be ours at ``file``. Raises OSError, also if it is none."""
        self.path.chmod(0o700)  # nothing is taken from a directory that is shut
        (self.path / name).rename(file)
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:  # the engine may have put another there
            raise OSError(f"what was written as {name} is no file with one name")
        if self._account is not None:
            os.chown(file, os.geteuid(), -1, follow_symlinks=False)

    async def written(self, work: Coroutine[Any, Any, T], most: int, seconds: float) -> T | None:
        """The outcome of ``work`` that has the engine write; None once that is more than ``most`` bytes, or is late."""
        loop = asyncio.get_running_loop()
        writing, until = loop.create_task(work), loop.time() + seconds
        try:
            while not writing.done() and size_of(self.path) <= most and loop.time() < until:
                await asyncio.wait((writing,), timeout=_LOOK)
            return writing.result() if writing.done() else None
        finally:
            writing.cancel()

    def shut(self) -> None:
        """Remove it, and all that is in it. Raises OSError if it stays open."""
        remove(self.path)
        if self.path.exists():
            raise OSError(f"{self.path} cannot be removed")


def size_of(directory: Path) -> int:
    """Bytes on disk of a directory and the files in it."""
    with suppress(OSError):
        return _BLOCK + sum(max(_BLOCK, file.lstat().st_size) for file in directory.iterdir())
    return 0


def remove(path: Path) -> None:
    """Remove a directory that an engine may have shut."""
    with suppress(OSError):
        path.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
