"""Models stay as long as clients say, and end over HTTP: those that are idle and not pinned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ollama
import pytest

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.ollama.durations import keep_alive


def told(front: Front) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=front.url, headers=front.headers())


def stays(front: Front) -> list[float]:
    return [i.stays for i in front.house.state.instances.values()]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 0),
        (30, 30),
        (1.5, 1.5),
        (-1, None),
        ("0", 0),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("-1m", None),
        ("-1", None),
        (1e30, 1e9),
    ],
)
def test_durations_as_clients_write_them(said: float | str, seconds: float | None) -> None:
    assert keep_alive(said) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("said", ["", "soon", "5 minutes", "5m!", "m", "--1", "1d"])
def test_what_is_no_duration_is_refused(said: str) -> None:
    with pytest.raises(LmxdError, match="keep_alive"):
        keep_alive(said)


async def test_a_model_ends_when_it_was_asked_for_the_last_time(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        asked: Any = {"model": "a", "prompt": "hi", "options": {"num_predict": 1}}
        assert (await told(front).generate(**asked, keep_alive=0)).response == "x"
        await front.until(lambda: not front.house.phases())
        await told(front).generate(**asked)
        assert front.house.phases() == {"a#2": "ready"}
        said = await told(front).generate(model="a", keep_alive=0)
        assert said.done_reason == "unload"
        await front.until(lambda: not front.house.phases())


async def test_a_model_that_is_not_loaded_is_not_loaded_to_be_unloaded(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await told(front).generate(model="a", keep_alive="0s")).done_reason == "unload"
        assert front.house.phases() == {}
        with pytest.raises(ollama.ResponseError) as caught:
            await told(front).generate(model="none", keep_alive=0)
        assert caught.value.status_code == 404


async def test_durations_are_honoured_within_what_the_profile_allows(tmp_path: Path) -> None:
    async with opened(house(tmp_path, a={"idle_timeout": "10m"})) as front:
        asked: Any = {"model": "a", "prompt": "hi", "options": {"num_predict": 1}}
        for said, seconds in (("30s", 30), ("2h", 600), (-1, 600), (60.0, 60)):
            await told(front).generate(**asked, keep_alive=said)
            assert stays(front) == [seconds]
        await told(front).generate(**asked)
        assert stays(front) == [600], "the word of an earlier request"
        answer = await front.ask("/api/chat", {"model": "a", "keep_alive": "soon"})
        assert answer.status == 400
        assert "keep_alive" in json.loads(answer.text)["error"]


async def test_embedding_ends_it_after_all_its_leases(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await told(front).embed(model="a", input=[], keep_alive=0)).embeddings == []
        await front.until(lambda: not front.house.phases())
        assert front.house.state.counts["asked"] == 1


@pytest.mark.parametrize(
    "path", ["/api/unload/{}", "/api/models/unload/{}", "/api/models/unload", "/unload", "/api/unload/"]
)
async def test_llama_swaps_routes_end_what_is_idle(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path, a={"aliases": ["x/y"]}, b={"pin": True})) as front:
        for name in ("a", "b"):
            await front.chat(name)
        running = json.loads((await front.ask("/running", method="GET")).text)["running"]
        assert running == [{"model": "a", "state": "ready"}, {"model": "b", "state": "ready"}]
        for name in ("x/y", "b"):
            assert (await front.ask(path.format(name))).status == 200
        await front.until(lambda: front.house.phases() == {"b#1": "ready"})
        assert (await front.ask("/api/models/unload/none")).status == 404


async def test_a_lease_of_another_is_not_ended(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front, front.house.client() as client:
        lease = await client.request("a")
        assert (await front.ask("/unload")).status == 200
        assert (await told(front).generate(model="a", keep_alive=0)).done_reason == "unload"
        assert [x.lease for x in (await client.instances()).instances[0].leases] == [lease.lease]
        await lease.release()
        await front.until(lambda: not front.house.phases())
