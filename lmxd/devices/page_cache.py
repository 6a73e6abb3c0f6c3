"""The kernel's page cache: RAM that nobody asked for, with files in it that were read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from lmxd.devices.host import HostProbe

PIECE: Final = 4 * 2**20
"""Bytes that are read, or found to be there, at a time.

They are read, not asked for: of what posix_fadvise(WILLNEED) is given at once, the kernel brings in no more than the
disk's read_ahead_kb, and it blocks all the same (bench/read_ahead.py)."""
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_RESERVE: Final = 2**30
"""Bytes of RAM that files leave free at least, as the margin of RAM does."""


def room() -> int:
    """Bytes that files may have: what the kernel calls available, less 1 GiB or 5 % of RAM."""
    (ram,) = HostProbe().measure(frozenset())
    return ram.capacity - ram.used - max(_RESERVE, ram.capacity // 20)


def bring_in(path: Path, offset: int, size: int) -> int:
    """Have so many bytes of a file in the cache; how many they are, fewer at its end. OSError if it cannot be read."""
    file = os.open(path, _OPEN)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return 0
        end = min(offset + size, found.st_size)
        buffer = bytearray(min(PIECE, max(0, end - offset)))
        for start in range(offset, end, PIECE):
            if not is_cached(file, start, min(PIECE, end - start)):
                os.preadv(file, [memoryview(buffer)[: end - start]], start)
        return max(0, end - offset)
    finally:
        os.close(file)


def is_cached(file: int, offset: int, size: int) -> bool:
    """Returns whether a piece of an open file seems to be in the cache: its first and its last page are."""
    return all(_is_cached(file, at) for at in (offset, max(offset, offset + size - 1)))


def _is_cached(file: int, offset: int) -> bool:
    try:
        return os.preadv(file, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except OSError:
        return False  # it would have to wait for the disk; or this kind of file system cannot say
