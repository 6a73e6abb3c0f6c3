"""Models whose names have slashes or letters of any language: leased, run, asked, listed and taken over."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from house import House, model

from gateway.front import opened
from lmxd.core.words import InstanceId

NAMES = ["unsloth/Qwen3-8B-GGUF:Q4_K_M", "hf.co/org/x:Q8_0", "通义/千问-8B", "हिन्दी" * 20]


def house(directory: Path) -> House:
    path = str(model(directory, "file"))
    made = House(directory, models={})
    made.write(models={name: {"path": path, "aliases": [f"short-{n}/x"]} for n, name in enumerate(NAMES)})
    return made


@pytest.mark.parametrize("number", range(len(NAMES)))
async def test_a_model_is_asked_by_every_route(tmp_path: Path, number: int) -> None:
    name, alias = NAMES[number], f"short-{number}/x"
    made = house(tmp_path)
    async with opened(made) as front:
        for called in (name, alias):
            body = {"model": called, "messages": [{"role": "user", "content": "Hello"}]}
            assert (await front.ask("/v1/chat/completions", body)).status == 200
            for written in (called, quote(called), quote(called, safe="")):
                one = await front.ask(f"/v1/models/{written}", method="GET")
                assert (one.status, json.loads(one.text)["id"]) == (200, called)
                assert (await front.ask(f"/upstream/{written}/health", method="GET")).status == 200
                assert (await front.ask(f"{front.url}//upstream//{written}//health", method="GET")).status == 200
                for path in ("/v1//models", "//models", "/v1/v1/models", "/openai/v1/models"):
                    again = await front.ask(f"{front.url}{path}//{written}//", method="GET")
                    assert (again.status, json.loads(again.text)["id"]) == (200, called)
                assert (await front.ask(f"{front.url}//api//models//unload//{written}/")).status == 200
        assert name in {x["name"] for x in json.loads((await front.ask("/api/tags", method="GET")).text)["models"]}
        assert (await front.ask("/api/show", {"model": name})).status == 200
        instance = InstanceId(f"{name}#1")
        assert made.launched(instance) is not None
        async with made.client() as client:
            assert (await client.logs(instance)).lines
    assert list(made.where.logs.glob("*.log")), "the log is a file in the directory of logs itself"
    assert not [path for path in made.where.home.iterdir() if path.is_dir() and path.name in ("unsloth", "hf.co")]


async def test_what_is_shut_for_clients_is_shut_behind_names_with_slashes_too(tmp_path: Path) -> None:
    made = house(tmp_path)
    async with opened(made) as front:
        for written in (NAMES[0], quote(NAMES[0], safe="")):
            for path in ("/upstream/%s/slots/0?action=erase", f"{front.url}//upstream//%s//slots//0?action=erase"):
                assert (await front.ask(path % written, {})).status == 403


async def test_instances_with_such_names_are_taken_over(tmp_path: Path) -> None:
    made = house(tmp_path)
    async with made.open(stays=True), made.client() as client:
        for name in NAMES:
            await client.request(name, hold="explicit")
        before = {i.instance for i in (await client.instances()).instances}
    async with made.open(), made.client() as client:
        assert {i.instance for i in (await client.instances()).instances} == before == {f"{n}#1" for n in NAMES}
