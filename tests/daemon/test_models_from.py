"""Models of directories are served without a profile, also those that come later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from house import House, model
from model_caches import in_hub

from lmxd.errors import LmxdError


def house(directory: Path) -> House:
    (directory / "shelf").mkdir(exist_ok=True)
    return House(directory, models={}, models_from=[str(directory / "shelf")])


async def test_every_model_of_a_directory_is_served_by_its_name(tmp_path: Path) -> None:
    made = house(tmp_path)
    in_hub(tmp_path / "shelf", "unsloth/tiny-GGUF", "tiny-Q4_K_M.gguf")
    model(tmp_path / "shelf", "plain")
    async with made.open(), made.client() as client:
        names = {m.model: m.problem for m in (await client.models()).models}
        assert names == {"unsloth/tiny-GGUF:Q4_K_M": None, "plain": None}
        lease = await client.request("unsloth/tiny-GGUF:Q4_K_M")
        assert lease.instance == "unsloth/tiny-GGUF:Q4_K_M#1"


async def test_one_that_comes_later_is_leased_at_once_and_what_runs_stays(tmp_path: Path) -> None:
    made = house(tmp_path)
    model(tmp_path / "shelf", "first")
    async with made.open(), made.client() as client:
        lease = await client.request("first")
        with pytest.raises(LmxdError, match="there is no model 'second'"):
            await client.request("second")
        model(tmp_path / "shelf", "second")
        made.daemon.served.adopt(made.daemon.served.written)  # as if a second had passed
        assert (await client.request("second")).instance == "second#1"
        assert lease.instance in {i.instance for i in (await client.instances()).instances}
        (tmp_path / "shelf/first.gguf").unlink()
        made.daemon.served.adopt(made.daemon.served.written)
        assert [m.model for m in (await client.models()).models] == ["second"]
        assert lease.instance in {i.instance for i in (await client.instances()).instances}


async def test_a_client_that_guesses_names_causes_one_look_a_second(tmp_path: Path) -> None:
    made = house(tmp_path)
    model(tmp_path / "shelf", "first")
    async with made.open(), made.client() as client:
        before = made.daemon.present.catalog
        os.rename(tmp_path / "shelf/first.gguf", tmp_path / "shelf/other.gguf")
        for number in range(20):
            with pytest.raises(LmxdError, match="there is no model"):
                await client.request(f"guess-{number}", wait=0)
        assert made.daemon.present.catalog is before


async def test_a_profile_goes_before_and_its_file_is_not_served_twice(tmp_path: Path) -> None:
    made = house(tmp_path)
    model(tmp_path / "shelf", "mine")
    model(tmp_path / "shelf", "other")
    model(tmp_path, "own")
    made.write(
        models={
            "called": {"path": str(tmp_path / "shelf/mine.gguf"), "context_length": 512},
            "other": {"path": str(tmp_path / "own.gguf")},
        }
    )
    async with made.open(), made.client() as client:
        listed = {m.model: m.path for m in (await client.models()).models}
        assert listed == {"called": f"{tmp_path}/shelf/mine.gguf", "other": f"{tmp_path}/own.gguf"}


async def test_they_are_there_after_a_reload_and_a_restart_takes_over_what_runs(tmp_path: Path) -> None:
    made = house(tmp_path)
    model(tmp_path / "shelf", "m")
    async with made.open(stays=True), made.client() as client:
        await client.request("m", hold="explicit")
        await made.daemon.reload()
        assert [m.model for m in (await client.models()).models] == ["m"]
    async with made.open(), made.client() as client:
        assert [i.instance for i in (await client.instances()).instances] == ["m#1"]
        assert [m.running for m in (await client.models()).models] == [1]


async def test_a_directory_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    made = house(tmp_path)
    made.write(models_from=[str(tmp_path / "none"), str(tmp_path / "shelf")])
    model(tmp_path / "shelf", "m")
    async with made.open(), made.client() as client:
        assert [m.model for m in (await client.models()).models] == ["m"]
        warnings = (await client.status()).warnings
        assert [w for w in warnings if w.startswith("models_from")] == [
            f"models_from: {tmp_path}/none: No such file or directory"
        ]
