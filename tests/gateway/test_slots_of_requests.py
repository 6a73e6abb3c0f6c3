"""The slot that an instance is told of a request: at each path, and beside clients of whom nothing is known."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card

from gateway.front import Front, opened, read_until
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.traces import agreeing, trace
from lmxd.gateway.requests.prompts import prompt_of

MANY = {"estimated_memory_gb": 8, "slots": 5}
LONG = "You are a careful agent. " * 400


def house(tmp_path: Path, **more: Any) -> House:
    models = {"a": MANY, "one": {"estimated_memory_gb": 4}}
    return House(tmp_path, FakeNvml(card()), models=models, **more)


async def slot(front: Front, path: str, body: dict[str, Any]) -> int | None:
    answer = await front.ask(path, {"model": "a", **body})
    assert answer.status == 200, answer.text
    found: int | None = json.loads(answer.text)["asked"].get("id_slot")
    return found


def chat(own: str, turns: int = 1) -> dict[str, Any]:
    """The same system prompt, and a question as long as that."""
    asked = [{"role": "user", "content": f"{own} {turn}: " + own * len(LONG)} for turn in range(turns)]
    return {"messages": [{"role": "system", "content": LONG}, *asked]}


async def test_agents_that_begin_alike_come_back_to_their_own_slots(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        first = [await slot(front, "/v1/chat/completions", chat(own)) for own in "xyz"]
        assert len(set(first)) == 3
        again = [await slot(front, "/upstream/a/v1/chat/completions", chat(own, turns=2)) for own in "zyx"]
        assert again == first[::-1]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/completions", {"prompt": list(range(2000))}),
        ("/v1/responses", {"input": LONG}),
        ("/completion", {"prompt": LONG}),
        ("/infill", {"input_prefix": LONG, "input_suffix": ""}),
    ],
)
async def test_a_prompt_comes_back_to_its_slot_at_each_path(tmp_path: Path, path: str, part: dict[str, Any]) -> None:
    async with opened(house(tmp_path)) as front:
        found = await slot(front, path, part)
        assert found is not None
        assert await slot(front, "/v1/completions", {"prompt": "of another"}) != found
        assert await slot(front, path, part) == found


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": LONG}]}),
        ("/v1/embeddings", {"input": LONG}),
        ("/v1/chat/completions", {"messages": [], "n": 2}),
        ("/v1/completions", {"prompt": [LONG, "another"]}),
        ("/v1/completions", {"prompt": [[1, 2], [3]]}),
        ("/tokenize", {"content": LONG}),
    ],
)
async def test_no_slot_is_named_where_one_is_not_heeded_or_not_enough(
    tmp_path: Path, path: str, part: dict[str, Any]
) -> None:
    async with opened(house(tmp_path)) as front:
        assert await slot(front, path, part) is None


def test_the_same_words_with_another_adapter_are_another_prompt() -> None:
    bodies = [json.dumps({"prompt": LONG, "lora": [{"id": n, "scale": 1.0}]}).encode() for n in (0, 1)]
    one, other = (prompt_of(UpstreamCall(path="/completion", body=body)) for body in bodies)
    assert one is not None
    assert other is not None
    assert agreeing(trace(one.text), trace(other.text)) == 0


async def test_a_client_may_name_its_slot_itself(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert await slot(front, "/v1/chat/completions", {"messages": [], "id_slot": 3}) == 3


async def test_ollamas_clients_have_slots_too(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for own in "xyx":
            answer = await front.ask("/api/chat", {"model": "a", **chat(own)})
            assert answer.status == 200, answer.text
            asked = json.loads((await front.ask("/upstream/a/fake/asked", method="GET")).text)
            assert asked["id_slot"] == "xy".index(own)


async def test_the_body_for_one_slot_is_as_it_came(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/v1/chat/completions", {"model": "one", **chat("x")})
        assert "id_slot" not in json.loads(answer.text)["asked"]


async def test_streams_at_the_same_time_have_a_slot_each(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        named: list[int] = []
        streams = [front.stream("a", tokens=10**5) for _ in range(4)]
        for stream in streams:
            await read_until(await stream.__aenter__(), "data:")
            named.append(json.loads((await front.ask("/upstream/a/fake/asked", method="GET")).text)["id_slot"])
        await asyncio.gather(*(stream.__aexit__(None, None, None) for stream in streams))
        assert sorted(named) == [0, 1, 2, 3]


async def test_beside_a_lease_of_somebody_else_the_engine_chooses(tmp_path: Path) -> None:
    """Its requests are at slots that only the engine knows: one that names such a slot would wait for it."""
    async with opened(house(tmp_path)) as front:
        assert await slot(front, "/v1/chat/completions", chat("x")) is not None
        await front.until(lambda: not front.house.state.leases)
        async with front.house.client() as client, await client.request("a") as direct:
            assert direct.alone
            assert await slot(front, "/v1/chat/completions", chat("x")) is None
        await front.until(lambda: not front.house.state.leases)
        assert await slot(front, "/v1/chat/completions", chat("x")) is not None


async def test_the_slots_of_an_engine_that_knows_no_such_parameter_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    engine = Path(__file__).parent.parent / "fake_open_engine.py"
    command = [sys.executable, "-S", str(engine), "127.0.0.1", "{port}", str(tmp_path)]
    models = {"a": {"command": command, "open": True, **MANY}}
    async with House(tmp_path, FakeNvml(card()), models=models).open() as house, house.client() as client:
        assert not (await client.request("a")).alone
