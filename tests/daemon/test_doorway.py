"""Doorways of engines: what is taken out of them is a file, whatever an engine puts at its place."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from lmxd.daemon.launching.doorway import Doorway, size_of


def opened(tmp_path: Path) -> Doorway:
    doorway = Doorway(tmp_path / "prompts/m#1.door")
    doorway.open()
    doorway.make("x.bin")
    doorway.admit()
    return doorway


def test_an_engine_finds_its_file_and_can_make_no_other(tmp_path: Path) -> None:
    doorway = opened(tmp_path)
    assert stat.S_IMODE(doorway.path.stat().st_mode) == 0o500
    assert [path.name for path in doorway.path.iterdir()] == ["x.bin"]
    (doorway.path / "x.bin").write_text("saved")
    doorway.take("x.bin", tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "saved"
    doorway.shut()
    assert not doorway.path.exists()


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_a_link_is_not_taken_for_a_file(tmp_path: Path, how: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    doorway = opened(tmp_path)
    doorway.path.chmod(0o700)
    (doorway.path / "x.bin").unlink()
    getattr(doorway.path / "x.bin", how)(precious)
    with pytest.raises(OSError, match="no file with one name"):
        doorway.take("x.bin", tmp_path / "mine")
    assert precious.read_text() == "precious"


async def test_what_is_written_beyond_its_bound_or_its_time_is_nothing(tmp_path: Path) -> None:
    doorway = opened(tmp_path)

    async def write(count: int) -> str:
        (doorway.path / "x.bin").write_bytes(bytes(count))
        return "done"

    async def write_for_ever(count: int) -> str:
        done = await write(count)
        await asyncio.Event().wait()
        return done

    assert await doorway.written(write(10**5), 2**20, 10) == "done"
    assert await doorway.written(write_for_ever(10**5), 10**4, 10) is None
    assert await doorway.written(write_for_ever(10), 2**20, 0.1) is None
    assert size_of(doorway.path) == 2 * 4096
