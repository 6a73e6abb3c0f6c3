"""What of a file is in the kernel's page cache, by mincore(2), and dropping it from there."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def drop(path: Path) -> None:
    """Have nothing of a file in the cache."""
    file = os.open(path, os.O_RDWR)
    os.fsync(file)  # what is not on disk cannot be dropped
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
    if pages_in_cache(path):
        pytest.skip(f"{path} is on a file system that is itself RAM")


def pages(path: Path) -> int:
    """How many it has."""
    return -(-path.stat().st_size // mmap.PAGESIZE)


def pages_in_cache(path: Path) -> int:
    """How many of them are there. Looking brings none in."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        found = ctypes.create_string_buffer(pages(path))
        start = ctypes.c_char.from_buffer(mapped)
        assert _libc.mincore(ctypes.addressof(start), len(mapped), found) == 0, os.strerror(ctypes.get_errno())
        del start
    return sum(page & 1 for page in found.raw[: pages(path)])
