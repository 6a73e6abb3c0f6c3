"""Requests of an elastic model: each gets the context that it needs, and the answers are those of a fixed one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model
from talks import talked

from gateway.front import Front, opened, read_until
from lmxd.errors import LmxdError
from lmxd.gateway import growing
from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.slots import InstanceSlots
from lmxd.gateway.requests.need import need_of
from lmxd.rpc.books import ElasticInfo

LONG = "x" * 700


def house(tmp_path: Path, play: dict[str, Any] | None = None, slots: int = 1, gb: float = 2, **more: Any) -> House:
    """Two models that answer alike: ``elastic`` of 512 to 3,072 tokens, and ``fixed`` with those from the start."""
    fixed = {"context_length": 3072, "slots": slots, "estimated_memory_gb": gb}
    for name in ("elastic", "fixed"):
        model(tmp_path, name, counts=True, **(play or {}))
    models = {"elastic": fixed | {"elastic": {"start": 512, "steps": [1024]}}, "fixed": fixed}
    return House(tmp_path, FakeNvml(card()), models=models, **more)


async def talk(front: Front, name: str, who: str, turns: int = 6) -> list[str]:
    """The answers of a conversation of some 200 tokens a turn."""
    messages, found = [], []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"{who} {turn} " + who * (180 // len(who))})
        answer = await front.chat(name, messages=messages, max_tokens=20)
        assert answer.status == 200, answer.text
        messages.append(json.loads(answer.text)["choices"][0]["message"])
        found.append(messages[-1]["content"])
    return found


def contexts(house: House, name: str = "elastic") -> list[int]:
    return sorted(i.ask.context for i in house.state.instances.values() if i.live and i.ask.profile == name)


async def test_a_conversation_grows_by_steps_and_is_carried(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        assert await talk(front, "elastic", "ann") == await talk(front, "fixed", "ann")
        await front.until(lambda: contexts(h) == [3072])
        last = await front.chat("elastic", messages=[{"role": "user", "content": "short"}], max_tokens=2)
        assert last.status == 200
        await front.until(lambda: not h.state.leases)


async def test_only_what_a_turn_adds_is_processed_after_a_growth(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        prompt, processed = "", []
        for turn in range(4):
            prompt += f"{turn}" * 200
            answer = await front.ask("/completion", {"model": "elastic", "prompt": prompt, "n_predict": 10})
            said = json.loads(answer.text)
            prompt += said["content"]
            processed.append(said["timings"]["prompt_n"])
        assert all(200 <= each <= 202 for each in processed), processed


async def test_a_short_request_asks_its_engine_nothing_beforehand(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        answer = await front.ask("/completion", {"model": "elastic", "prompt": [1, 2, 3], "n_predict": 4})
        assert answer.status == 200
        assert contexts(h) == [512]


async def test_a_long_first_request_starts_with_the_step_that_it_needs(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        body = {"model": "elastic", "prompt": list(range(900)), "n_predict": 50}
        assert (await front.ask("/completion", body)).status == 200
        assert contexts(h) == [1024]
        assert len(h.state.instances) == 1


async def test_a_conversation_goes_on_where_it_lies_though_others_start_with_more(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front, h.client() as lmxd:
        talked(h, 900, model="elastic")
        steps = [sum((await lmxd.plan("elastic", ctx=ctx)).devices.values()) for ctx in (512, 1024)]
        (gpu,) = (await lmxd.devices()).devices
        held = await lmxd.hold(gpu.headroom - sum(steps) // 2)
        begun = {"model": "elastic", "prompt": "a" * 300, "n_predict": 10}
        said = json.loads((await front.ask("/completion", begun)).text)["content"]
        assert contexts(h) == [512], "there was no room for more"
        await lmxd.release(held.lease)

        async def has_room() -> bool:
            (now,) = (await lmxd.devices()).devices
            return now.headroom > steps[1]

        await h.until(has_room)
        answer = await front.ask("/completion", begun | {"prompt": f"{begun['prompt']}{said}"})
        assert json.loads(answer.text)["timings"]["prompt_n"] < 10
        assert contexts(h) == [512]
        other = {"model": "elastic", "prompt": "z" * 100, "n_predict": 10}
        assert (await front.ask("/completion", other)).status == 200
        assert contexts(h) == [512, 1024]


@pytest.mark.parametrize("name", ["elastic", "fixed"])
async def test_each_of_two_goes_on_in_the_instance_that_has_its_conversation(tmp_path: Path, name: str) -> None:
    """Both are idle between two turns, so that each could be served by either."""
    async with opened(h := house(tmp_path), instances=8) as front:
        prompts = dict.fromkeys("az", "")

        async def turn(who: str, size: int) -> int:
            prompts[who] += who * size
            answer = await front.ask("/completion", {"model": name, "prompt": prompts[who], "n_predict": 5})
            said = json.loads(answer.text)
            prompts[who] += said["content"]
            await front.until(lambda: not h.state.leases)  # an agent works a while between two turns
            return int(said["timings"]["prompt_n"])

        for _ in range(3):
            await asyncio.gather(turn("a", 400), turn("z", 400))
        await front.until(lambda: contexts(h, name) == [3072, 3072])
        processed = [await turn(who, 20) for who in "aaazzaz"]
        assert all(count <= 22 for count in processed), processed


async def test_four_clients_at_once_grow_each_by_itself(tmp_path: Path) -> None:
    async with opened(house(tmp_path, slots=4, gb=1), instances=8) as front:
        names = ["ann", "bob", "cyd", "dan"]
        found = await asyncio.gather(*(talk(front, "elastic", who, turns=4) for who in names))
        assert found == [await talk(front, "fixed", who, turns=4) for who in names]


async def test_a_prompt_that_the_engine_refuses_as_too_long_is_sent_again(tmp_path: Path) -> None:
    """Numbers as strings: nobody but the engine knows how many tokens they are."""
    async with opened(h := house(tmp_path)) as front:
        answer = await front.ask("/completion", {"model": "elastic", "prompt": ["7"] * 600, "n_predict": 5})
        assert answer.status == 200, answer.text
        assert json.loads(answer.text)["tokens_evaluated"] == 600
        await front.until(lambda: contexts(h) == [1024])


async def test_what_was_said_before_such_a_prompt_is_carried(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for count, had in ((300, 0), (600, 300)):
            body = {"model": "elastic", "prompt": ["7"] * count, "n_predict": 0}
            answer = await front.ask("/completion", body)
            assert answer.status == 200, answer.text
            assert json.loads(answer.text)["timings"]["cache_n"] == had


async def test_a_prompt_that_fits_and_its_answer_wait_a_while_for_what_another_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "FITTING", 0.3)
    monkeypatch.setattr(growing, "AT_WALL", 0.3)
    async with opened(h := house(tmp_path, slots=2, gb=13)) as front, h.client() as lmxd:
        other = await lmxd.request("elastic")
        answer = await front.ask("/completion", {"model": "elastic", "prompt": "y" * 450, "n_predict": 100})
        assert answer.status == 200, answer.text
        assert json.loads(answer.text)["tokens_predicted"] == 512 - 450
        assert other.lease in h.state.leases


async def test_a_request_that_is_too_long_for_the_last_step_is_told_its_figures(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        await front.chat("elastic", messages=[{"role": "user", "content": "short"}], max_tokens=2)
        body = {"model": "elastic", "prompt": "x" * 3500, "n_predict": 5}
        answer = await front.ask("/completion", body)
        assert answer.status == 400
        assert "3500 tokens, which exceeds the available context size of 3072 tokens" in answer.text
        error = json.loads(answer.text)["error"]
        assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 3500, 3072)
        assert 3072 not in contexts(h)


async def test_a_refusal_of_another_kind_is_passed_on_whole(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        warm = await front.ask("/completion", {"model": "elastic", "prompt": [1], "n_predict": 1})
        assert warm.status == 200
        said = b'{"error":{"code":400,"message":"no such thing","type":"invalid_request_error"}}'
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await front.ask("/upstream/elastic/fake/answer", head % len(said) + said)
        answer = await front.ask("/completion", {"model": "elastic", "prompt": [1], "n_predict": 1})
        assert (answer.status, answer.text.encode()) == (400, said)


async def test_without_room_beside_it_the_old_instance_goes_for_the_larger_one(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, gb=15)) as front:
        assert await talk(front, "elastic", "ann", turns=3)
        assert contexts(h) == [1024]
        await front.until(lambda: not h.state.leases)


async def test_a_request_that_cannot_grow_gets_the_refusal_and_leaves_nothing(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, slots=2, gb=13)) as front, h.client() as lmxd:
        other = await lmxd.request("elastic")
        body = {"model": "elastic", "prompt": LONG, "n_predict": 5}
        answer = await front.ask("/completion", body, Prefer="wait=0")
        assert answer.status == 429, answer.text
        assert json.loads(answer.text)["error"]["code"] == "no_capacity"
        await front.until(lambda: not h.state.tickets and [*h.state.leases] == [other.lease])
        body = {"model": "elastic", "prompt": "y" * 450, "n_predict": 100}
        short = await front.ask("/completion", body, Prefer="wait=0")
        assert short.status == 200, "it runs with what it has: its prompt fits"


async def test_a_stream_says_that_it_grows(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, {"load_seconds": 1.5})) as front:
        await front.chat("elastic", messages=[{"role": "user", "content": "short"}], max_tokens=2)
        body = {"model": "elastic", "prompt": LONG, "n_predict": 5, "stream": True}
        async with front.session.post("/completion", json=body, headers=front.headers()) as answer:
            said = await read_until(answer, '"stop": true')
        assert ": growing" in said
        assert contexts(h)[-1] == 1024


async def test_a_client_that_leaves_takes_its_growth_with_it(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        await front.chat("elastic", messages=[{"role": "user", "content": "short"}], max_tokens=2)
        model_file = tmp_path / "elastic.json"
        model_file.write_text(json.dumps({"counts": True, "load_seconds": 30}))
        body = {"model": "elastic", "prompt": LONG, "n_predict": 5}
        asked = asyncio.create_task(front.session.post("/completion", json=body, headers=front.headers()))
        await front.until(lambda: any(lease.growing for lease in h.state.leases.values()))
        asked.cancel()
        await front.until(lambda: not h.state.leases and not h.state.tickets)


async def test_num_ctx_of_ollama_is_had_by_growing(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        body = {"model": "elastic", "messages": [{"role": "user", "content": "short"}], "stream": False}
        answer: SimpleNamespace = await front.ask("/api/chat", body | {"options": {"num_ctx": 2048, "num_predict": 4}})
        assert answer.status == 200, answer.text
        assert contexts(h) == [512]


@pytest.mark.parametrize(("code", "again"), [("lease_ended", True), ("cancelled", True), ("no_capacity", False)])
async def test_a_request_that_fits_is_sent_to_no_lease_that_has_ended_as_it_waited_to_grow(
    code: str, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    """An engine that ends takes a connection yet, and breaks off."""

    async def grow(*_: object) -> None:
        raise LmxdError(code, "no", "ask again")

    async def tokens_of(*_: object) -> int:
        return 300

    slots, elastic = InstanceSlots(), ElasticInfo(steps=[512, 1024], start=512)
    leases: Any = SimpleNamespace(grow=grow, slots=slots, shelf=None, connections=None)
    call = UpstreamCall(path="/v1/completions", body=json.dumps({"prompt": LONG, "max_tokens": 400}).encode())
    need = need_of(call)
    assert need is not None
    growth = growing.RequestGrowth(leases, elastic, need, None, lambda _: None, lambda _: None)
    monkeypatch.setattr(growth, "tokens_of", tokens_of)
    lease: Any = SimpleNamespace(ctx=512, instance="m#1", model="m", alone=False)
    if again:
        with pytest.raises(growing.Anew):
            await growth.room(lease, call)
    else:
        assert await growth.room(lease, call) is lease
