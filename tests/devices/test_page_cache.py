"""Files brought into the page cache: real ones, dropped from it before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cached import drop, pages, pages_in_cache

from lmxd.devices.page_cache import PIECE, bring_in, is_cached, room

MIB = 2**20
SIZE = 3 * PIECE + 4097


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(os.urandom(SIZE))
    drop(path)
    return path


def test_a_cold_file_is_brought_in_whole(file: Path) -> None:
    assert bring_in(file, 0, 10 * SIZE) == SIZE
    assert pages_in_cache(file) == pages(file)


def test_only_what_is_asked_for_is_read(file: Path) -> None:
    assert bring_in(file, PIECE, 4096) == 4096
    handle = os.open(file, os.O_RDONLY)
    assert is_cached(handle, PIECE, 4096)
    os.close(handle)
    assert 0 < pages_in_cache(file) < pages(file), "the kernel reads on a little, but not all"


def test_what_is_there_already_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_in(file, 0, SIZE)
    asked: list[int] = []
    really = os.preadv

    def preadv(handle: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        asked.append(sum(len(buffer) for buffer in buffers))
        return really(handle, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    assert bring_in(file, 0, SIZE) == SIZE
    assert asked == [1] * 8, "two bytes of each piece"


def test_beyond_the_end_there_is_nothing(file: Path) -> None:
    assert bring_in(file, SIZE, MIB) == 0
    assert bring_in(file, SIZE + MIB, MIB) == 0
    assert bring_in(file, SIZE - 5, MIB) == 5


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert bring_in(tmp_path / "pipe", 0, MIB) == 0
    with pytest.raises(FileNotFoundError):
        bring_in(tmp_path / "nothing", 0, MIB)


def test_files_never_get_all_that_is_available() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    assert room() <= available - 2**30 + 256 * MIB, "what others free meanwhile aside"
