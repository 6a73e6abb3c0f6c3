"""An instance's log: a file that the process appends to, so that it outlives us, cut when it grows too long."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from lmxd.files import file_name, open_regular

_TAIL = 64 * 1024
"""Bytes at the end of a log that its last lines are looked for in."""
_MAX_FILES = 64
"""Logs that are kept; the oldest go first."""
_HEAD = 4 * _TAIL
"""Bytes at the beginning of a log that are all an engine says while it loads."""
_LOOK: Final = 0.5
_LOOK_SOON: Final = 0.02
"""Seconds between two looks at the size of a log: of one that is quiet, and of one that grows fast."""


class Log:
    """The log file of one instance, of at most ``cap`` bytes."""

    def __init__(self, directory: Path, instance: str, cap: int) -> None:
        """``cap``: bytes."""
        self.path = log_path(directory, instance)
        self._cap = cap

    def open(self) -> int:
        """A descriptor for the process to write to; the log starts empty.

        The directory is made if need be; logs beyond the newest 64 are removed.
        """
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _forget_old(self.path.parent)
        fd = open_regular(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        os.ftruncate(fd, 0)
        return fd

    async def keep_short(self) -> None:
        """Trim it whenever that is due, until cancelled; look more often while it grows fast."""
        before = 0
        while True:
            size = self._size()
            if long := size > self._cap:
                await asyncio.to_thread(self.trim)
            await asyncio.sleep(_LOOK_SOON if long or size - before > self._cap // 64 else _LOOK)
            before = size

    def _size(self) -> int:
        with suppress(OSError):
            return self.path.lstat().st_size
        return 0

    def trim(self) -> None:
        """Beyond the cap, keep the first bytes and the last quarter. The process goes on appending to the same file."""
        with suppress(OSError), open(open_regular(self.path, os.O_RDWR | os.O_APPEND), "r+b") as file:
            if os.fstat(file.fileno()).st_size <= self._cap:
                return
            first = min(_HEAD, self._cap // 8)
            kept = _last_bytes(file, self._cap // 4)
            file.truncate(first)
            file.write(b"\n... (cut by lmxd: the log reached its size cap)\n" + kept)


def log_path(directory: Path, instance: str) -> Path:
    """The path of an instance's log."""
    return directory / f"{file_name(instance)}.log"


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, at most 64 KiB of them; empty if there is none."""
    with suppress(OSError), open(open_regular(path, os.O_RDONLY), "rb") as file:
        return _lines(_last_bytes(file, _TAIL))[-lines:] if lines > 0 else []
    return []


def head(path: Path) -> list[str]:
    """The first 256 KiB of a log: all that an engine says while it loads."""
    with suppress(OSError), open(open_regular(path, os.O_RDONLY), "rb") as file:
        return _lines(file.read(_HEAD))
    return []


def _lines(data: bytes) -> list[str]:
    """A line ends with a line feed, and with nothing else that is a line's end to some."""
    lines = data.decode("utf-8", "replace").split("\n")
    return lines if lines[-1] else lines[:-1]


def _last_bytes(file: BinaryIO, count: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - count))
    data = file.read(count)
    whole = data.find(b"\n") + 1 if size > count else 0  # most likely it begins with half a line
    return data[whole:]


def _forget_old(directory: Path) -> None:
    with suppress(FileNotFoundError):
        logs = sorted(directory.glob("*.log"), key=lambda p: p.lstat().st_mtime, reverse=True)
        for path in logs[_MAX_FILES:]:
            path.unlink(missing_ok=True)
