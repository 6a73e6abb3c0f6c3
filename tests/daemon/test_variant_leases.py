"""Variants at the socket: they are listed with their model, and no lease pretends to be one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import pytest
from house import House, model

from lmxd.cli.explanations import plan
from lmxd.cli.leases import request
from lmxd.errors import LmxdError

VARIANTS = {"thinking": {"set": {"top_k": 20}, "strip": ["min_p"], "aliases": ["thinker"]}, "same": None}
MODELS = {"a": {"estimated_memory_gb": 0.4, "aliases": ["x"], "set": {"temperature": 0.6}, "variants": VARIANTS}}
NAMES = ("a:thinking", "x:thinking", "thinker", "a:same")


async def test_they_are_listed_with_their_model(tmp_path: Path) -> None:
    async with House(tmp_path, models=MODELS).open() as h, h.client() as client:
        [found] = (await client.models()).models
        assert (found.set, found.strip) == ({"temperature": 0.6}, [])
        assert [(v.name, v.aliases, v.set, v.strip) for v in found.variants] == [
            ("a:same", ["x:same"], {}, []),
            ("a:thinking", ["x:thinking", "thinker"], {"top_k": 20}, ["min_p"]),
        ]


async def test_a_lease_of_one_is_refused_for_its_endpoint_would_set_nothing(tmp_path: Path) -> None:
    async with House(tmp_path, models=MODELS).open() as h, h.client() as client:
        for name in NAMES:
            with pytest.raises(LmxdError) as caught:
                await client.request(name)
            assert caught.value.code == "invalid_params"
            assert f"model: {name} is a with parameters that the gateway sets" in caught.value.message
            assert "or for a and send what lmxctl models --json shows" in caught.value.remedy
        assert not h.state.instances
        lease = await client.request("x")
        assert lease.instance == "a#1"
        await lease.release()


async def test_all_else_takes_it_for_its_model(tmp_path: Path) -> None:
    async with House(tmp_path, models=MODELS).open() as h, h.client() as client:
        await (await client.request("a")).release()
        for name in NAMES:
            assert (await client.plan(name)).instance == "a#1"
            assert (await client.estimate(name)).model == "a"
            assert (await client.show(name)).file is not None
        assert (await client.keep_alive("thinker", seconds=0)).instances == ["a#1"]
        await h.until(lambda: not h.state.instances)


async def test_a_file_that_is_called_like_a_variant_is_not_served_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    for name in ("thinker", "other"):
        model(tmp_path / "shelf", name)
    async with House(tmp_path, models=MODELS, models_from=[str(tmp_path / "shelf")]).open() as h, h.client() as client:
        assert [x.model for x in (await client.models()).models] == ["a", "other"]


def completed(command: click.Command, word: str) -> list[str]:
    with click.Context(command) as context:
        return [found.value for found in command.params[0].shell_complete(context, word)]


async def test_shells_complete_the_names_that_a_command_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with House(tmp_path, models=MODELS).open() as h:
        monkeypatch.setenv("LMXD_SOCKET", str(h.where.socket))
        assert await asyncio.to_thread(completed, request, "") == ["a", "x"]
        assert await asyncio.to_thread(completed, plan, "a") == ["a", "a:same", "a:thinking"]
        assert await asyncio.to_thread(completed, plan, "thi") == ["thinker"]
