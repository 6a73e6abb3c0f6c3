"""Shared memory that an instance leaves behind: its own is removed, another user's is not."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmxd.instances.shared_memory import SharedMemory


@contextmanager
def mapped(name: str) -> Iterator[Path]:
    """A file in /dev/shm that this process maps."""
    path = Path("/dev/shm") / name
    path.write_bytes(bytes(4096))
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
            yield path
    finally:
        path.unlink(missing_ok=True)


def test_what_somebody_maps_still_stays() -> None:
    with mapped(f"psm_lmxd{os.getpid()}") as path:
        shared = SharedMemory()
        shared.see([os.getpid()])
        assert shared
        assert shared.remove() == []
        assert path.exists()


def test_a_name_that_is_no_programs_own_stays() -> None:
    with mapped(f"model-lmxd{os.getpid()}"):
        shared = SharedMemory()
        shared.see([os.getpid()])
        assert not shared


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_another_users_is_not_its_own_though_it_maps_it() -> None:
    with mapped(f"psm_lmxd{os.getpid()}") as path:
        shared = SharedMemory()
        os.chown(path, 12345, 12345)
        shared.see([os.getpid()])
        assert not shared
        os.chown(path, 0, 0)
        shared.see([os.getpid()])
        assert shared
