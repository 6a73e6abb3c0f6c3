"""A llama-server that is upgraded in its place is noticed: flags, bytes and its name are those of the new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from house import House, fake_engine

from lmxd.errors import LmxdError


def upgrade(engine: Path, version: str) -> None:
    """Another binary comes into the place of the old, as a package manager puts it there."""
    fresh = engine.with_suffix(".new")
    said = f'[ "$1" = --version ] && echo "version: {version}" && exit'
    fresh.write_text(engine.read_text().replace("\n", f"\n{said}\n", 1))
    fresh.chmod(0o755)
    os.replace(fresh, engine)


async def test_an_engine_upgraded_in_place_is_noticed_at_the_next_look(tmp_path: Path) -> None:
    made = House(tmp_path, models={"a": {}, "b": {}})
    async with made.open(), made.client() as client:
        before = (await client.status()).engine
        lease = await client.request("a")
        upgrade(fake_engine(tmp_path), "99999 (new)")
        assert await made.daemon.engine.notice(at_once=True)
        after = (await client.status()).engine
        assert after != before
        assert "99999" in after
        assert made.daemon.present.catalog.default.build.startswith("99999")
        assert lease.instance in made.phases(), "what runs goes on"
        assert (await client.request("b")).instance == "b#1"


async def test_an_engine_that_was_missing_and_comes_is_noticed_and_its_warning_goes(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path)
    away = engine.rename(tmp_path / "away")
    made = House(tmp_path, models={"a": {}}, engine={"path": str(tmp_path / "llama-server")})
    away = (tmp_path / "llama-server").rename(tmp_path / "away")
    async with made.open(), made.client() as client:
        assert any("is not an executable file" in warning for warning in (await client.status()).warnings)
        with pytest.raises(LmxdError, match="is not an executable file"):
            await client.request("a")
        away.rename(tmp_path / "llama-server")
        assert await made.daemon.engine.notice(at_once=True)
        assert not any("executable" in warning for warning in (await client.status()).warnings)
        assert (await client.request("a")).instance == "a#1"
