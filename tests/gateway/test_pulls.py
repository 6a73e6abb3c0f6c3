"""ollama's clients have models fetched: administrators alone, from the hub alone, and as ``lmxd pull`` does it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import ollama
import pytest
from house import House
from loopback_hub import LoopbackHub
from models.test_hub import REPOSITORY, hub

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.config.file import load

assert hub
TINY = f"hf.co/{REPOSITORY}:Q8_0"
TURN: Any = [{"role": "user", "content": "x"}]


def told(front: Front, key: str) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=front.url, headers=front.headers(Authorization=f"Bearer {key}"))


def fetches(here: House) -> list[int]:
    """The processes that fetch a model for a house."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_text().split("\0")
            if "pull" in words and str(here.config_path) in words:
                found.append(int(path.parent.name))
    return found


@asynccontextmanager
async def fetching(here: House) -> AsyncIterator[tuple[Front, ollama.AsyncClient]]:
    """A gateway, and ollama's client with an administrator's key."""
    async with opened(here) as front:
        yield front, told(front, front.admin)


async def test_a_model_of_the_hub_is_fetched_added_and_served(hub: LoopbackHub, tmp_path: Path) -> None:
    async with fetching(house(tmp_path)) as (front, client):
        steps = [step async for step in await client.pull(TINY, stream=True)]
        said = [step.status for step in steps]
        assert said[0] == "pulling manifest"
        assert said[-1] == "success"
        (digest,) = {step.digest for step in steps if step.digest}
        assert str(digest).startswith("sha256:")
        last = [step for step in steps if step.total][-1]
        assert last.status == "pulling Q8_0"
        sizes = [hub.size(f"{REPOSITORY}/{name}") for name in ("Tiny-Q8_0.gguf", "mmproj-F16.gguf")]
        assert last.completed == last.total == sum(sizes), "the model, and the projector beside it"
        assert (tmp_path / REPOSITORY / "Tiny-Q8_0.gguf").stat().st_size == sizes[0]
        assert load(front.house.config_path).models.keys() == {"a", "b", TINY}
        assert TINY in [model.model for model in (await client.list()).models], "at once"
        assert (await client.chat(TINY, TURN)).message.content
        sent = hub.sent
        assert (await client.pull(TINY)).status == "success"
        assert (await told(front, front.key).pull(TINY)).status == "success", "it is here: for everybody"
        assert hub.sent == sent


async def test_without_a_stream_there_is_one_answer(hub: LoopbackHub, tmp_path: Path) -> None:
    async with fetching(house(tmp_path)) as (front, client):
        assert (await client.pull(f"hf.co/{REPOSITORY}:latest")).status == "success", "ollama's tag for none"
        assert (await client.chat(f"hf.co/{REPOSITORY}", TURN)).message.content
        answer = await front.ask(
            "/api/pull", {"model": f"hf:{REPOSITORY}:Q8_0", "stream": False}, Authorization=f"Bearer {front.admin}"
        )
        assert json.loads(answer.text) == {"status": "success"}


async def test_only_administrators_have_models_fetched(hub: LoopbackHub, tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for streams in (True, False):
            answer = await front.ask("/api/pull", {"model": TINY, "stream": streams})
            assert answer.status == 403
            error = json.loads(answer.text)["error"]
            assert error == f"the key of user is no administrator's (an administrator may fetch it: lmxd pull {TINY})"
        with pytest.raises(ollama.ResponseError) as refused:
            await told(front, front.key).pull(TINY)
        assert refused.value.status_code == 403
    assert not hub.asked


@pytest.mark.parametrize(
    "name",
    [
        "llama3.2",
        "http://127.0.0.1:1/m.gguf",
        "https://huggingface.co/o/r",
        "/etc/passwd",
        "../m.gguf",
        "file:///etc/passwd",
        "--to=/tmp",
        "hf:",
        "hf:-x/y\n",
        "hf.co/../..",
        "hf.co/o/r --to /tmp",
        "; rm -rf ~",
        "\u001b[2J",
    ],
)
async def test_neither_a_host_nor_a_path_is_an_http_clients_to_name(
    hub: LoopbackHub,
    tmp_path: Path,
    name: str,
) -> None:
    async with fetching(house(tmp_path)) as (front, client):
        with pytest.raises(ollama.ResponseError, match=r"name one of the hub's: hf\.co/ORG/REPO:QUANT") as refused:
            await client.pull(name)
        assert refused.value.status_code == 404
        error = json.loads((await front.ask("/api/pull", {"model": name})).text)["error"]
        typed = error.partition("(an administrator may fetch one of the hub's: lmxd pull ")[2].removesuffix(")")
        assert typed == "hf:ORG/REPO:QUANT", "no word of a client's is told to be typed"
    assert not hub.asked


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("hf.co/o/none", 404, "it has no such repository"),
        (f"hf.co/{REPOSITORY}:Q3_K", 400, "there is no such model in it"),
        (f"hf.co/{REPOSITORY}:F32", 400, "F16 is the largest that does"),
        ("hf.co/o", 400, "names no repository"),
    ],
)
async def test_what_cannot_be_fetched_is_an_error_to_both_kinds_of_clients(
    hub: LoopbackHub,
    tmp_path: Path,
    name: str,
    status: int,
    why: str,
) -> None:
    async with fetching(house(tmp_path)) as (front, client):
        before = front.house.config_path.read_text()
        with pytest.raises(ollama.ResponseError, match=why) as refused:
            await client.pull(name)
        assert refused.value.status_code == status
        with pytest.raises(ollama.ResponseError, match=why):
            [_ async for _ in await client.pull(name, stream=True)]
        assert front.house.config_path.read_text() == before


async def test_a_gateway_that_may_not_write_the_configuration_fetches_nothing(
    hub: LoopbackHub,
    tmp_path: Path,
) -> None:
    """As the system's, whose user is nobody special: the remedy is the command."""
    async with fetching(house(tmp_path)) as (front, client):
        front.house.config_path.unlink()
        os.mkfifo(front.house.config_path)
        with pytest.raises(ollama.ResponseError, match=f"an administrator may fetch it: lmxd pull {TINY}") as refused:
            await client.pull(TINY)
        assert refused.value.status_code == 403
        assert "the gateway may not write" in refused.value.error
    assert not hub.asked


async def test_a_fetch_ends_with_its_client_and_the_next_one_goes_on(hub: LoopbackHub, tmp_path: Path) -> None:
    async with fetching(house(tmp_path)) as (front, client):
        steps = await client.pull(TINY, stream=True)
        assert (await anext(aiter(steps))).status == "pulling manifest"
        assert fetches(front.house)
        second = asyncio.create_task(client.pull(f"hf.co/{REPOSITORY}:F16"))
        await steps.aclose()  # type: ignore[attr-defined]
        assert (await second).status == "success", "one at a time"
        await front.until(lambda: not fetches(front.house))
        assert (await client.pull(TINY)).status == "success"
        assert load(front.house.config_path).models.keys() == {"a", "b", TINY, f"hf.co/{REPOSITORY}:F16"}
