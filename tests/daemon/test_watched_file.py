"""A configuration that is watched is read again when its content is another, however it was replaced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from waiting import until

from lmxd.daemon.watched_file import content, watched


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[list[str]]:
    """The contents that were told of."""
    told: list[str] = []

    async def changed() -> None:
        told.append(path.read_text())

    task = asyncio.get_running_loop().create_task(watched(path, content(path), changed, every=0.01))
    try:
        yield told
    finally:
        task.cancel()


async def test_every_way_to_replace_a_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    (tmp_path / "real").write_text("linked")
    async with watching(path) as told:
        stamp = path.stat().st_mtime
        path.write_text("two")
        os.utime(path, (stamp, stamp))  # cp -p, rsync -t: the time is as before
        await until(lambda: told == ["two"])
        (tmp_path / "fresh").write_text("three")
        os.replace(tmp_path / "fresh", path)
        await until(lambda: told == ["two", "three"])
        path.unlink()
        path.symlink_to("real")
        await until(lambda: told == ["two", "three", "linked"])
        os.replace(tmp_path / "real", tmp_path / "gone")
        (tmp_path / "real").write_text("turned")
        await until(lambda: told[3:] == ["turned"])


async def test_a_file_that_is_only_touched_or_gone_for_a_moment_is_no_change(tmp_path: Path) -> None:
    path, marker = tmp_path / "config.yaml", tmp_path / "marker"
    path.write_text("one")
    marker.write_text("one")
    async with watching(path) as told, watching(marker) as looks:
        os.utime(path)
        path.rename(tmp_path / "away")
        marker.write_text("two")
        await until(lambda: looks == ["two"])  # so many looks later
        (tmp_path / "away").rename(path)
        marker.write_text("three")
        await until(lambda: looks == ["two", "three"])
        assert told == []
