"""Requests of an elastic model whose slots share one cache: each keeps to its own tokens, and all are answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from gateway.front import Front, opened, read_until
from gateway.test_walls import CHAT, GREEDY, PATHS, TEXT, Heard, heard, walls, whole
from lmxd.gateway import shared_growth
from lmxd.gateway.leasing import slots as leased

SHARE, CELLS = 512, 4096


def house(tmp_path: Path, play: dict[str, Any] | None = None, gb: float = 9, slots: int = 8) -> House:
    """Two models that answer alike: ``shared`` has one cache of ``slots`` times 512 tokens, ``fixed`` a slot of 4,096.

    With fewer slots, it has twice as many later, up to eight. A card has room for two instances of nine GB.
    """
    fixed = {"context_length": CELLS, "estimated_memory_gb": gb}
    for name in ("shared", "fixed"):
        model(tmp_path, name, counts=True, may_end=True, **(play or {}))
    steps = [size * SHARE for size in (4, 8) if size >= slots]
    shared = fixed | {"kv_unified": True, "slots": slots, "elastic": {"start": SHARE, "steps": steps}}
    return House(tmp_path, FakeNvml(card()), models={"shared": shared, "fixed": fixed})


def turn(messages: list[dict[str, str]], who: str, number: int) -> None:
    messages.append({"role": "user", "content": f"{who} {number} " + who * (180 // len(who))})


async def talk(front: Front, name: str, who: str, turns: int = 6) -> list[tuple[str, int]]:
    """The answers of a conversation of some 200 tokens a turn, and the tokens of each with its prompt."""
    messages: list[dict[str, str]] = []
    found = []
    for number in range(turns):
        turn(messages, who, number)
        answer = await front.chat(name, messages=messages, max_tokens=20)
        assert answer.status == 200, answer.text
        said = json.loads(answer.text)
        messages.append(said["choices"][0]["message"])
        found.append((messages[-1]["content"], said["usage"]["total_tokens"]))
    return found


async def described(front: Front) -> list[dict[str, Any]]:
    """The slots of ``shared``, as its engine describes them."""
    found: list[dict[str, Any]] = json.loads((await front.ask("/upstream/shared/slots", method="GET")).text)
    return found


async def slots(front: Front) -> list[int]:
    """The tokens in each."""
    return [each["n_prompt_tokens"] for each in await described(front)]


def instances(h: House, name: str = "shared") -> list[str]:
    return [i.id for i in h.state.instances.values() if i.live and i.ask.profile == name]


async def test_a_conversation_grows_where_it_is_and_only_what_is_new_is_processed(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        prompt, processed = "", []
        for number in range(6):
            prompt += f"{number}" * 300
            answer = await front.ask("/completion", {"model": "shared", "prompt": prompt, "n_predict": 10})
            said = json.loads(answer.text)
            prompt += said["content"]
            processed.append(said["timings"]["prompt_n"])
        assert all(300 <= each <= 302 for each in processed), processed
        assert instances(h) == ["shared#1"]
        await front.until(lambda: not h.state.leases)


async def test_more_talk_at_once_than_the_cache_has_cells_and_none_ends_for_another(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, {"token_seconds": 0.001}, gb=13)) as front:
        names = [f"{letter}{letter}x" for letter in "abcdefgh"]
        fixed = [await talk(front, "fixed", name, 5) for name in names]
        found = await asyncio.gather(*(talk(front, "shared", name, 5) for name in names))
        assert found == fixed
        assert sum(each[-1][1] for each in found) > 1.5 * CELLS
        assert instances(h) == ["shared#1"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_goes_on_behind_each_bound_as_if_there_were_none(tmp_path: Path, path: str) -> None:
    async with opened(h := house(tmp_path, {"wordy": 3000})) as front:
        fixed = await heard(front, path, {"model": "fixed", **PATHS[path]})
        found = await heard(front, path, {"model": "shared", **PATHS[path]})
        assert found.told == fixed.told
        assert len(found.text) > 2800
        assert len(found.ids) == 1
        assert (await walls(front, "shared")).keys() == {"continued"}
        assert sorted(await slots(front))[-2:] == [0, 3000], "all of it lies in one slot"
        assert instances(h) == ["shared#1"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer_goes_on_behind_each_bound(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path, {"wordy": 3000})) as front:
        fixed = await whole(front, path, {"model": "fixed", **PATHS[path]})
        assert await whole(front, path, {"model": "shared", **PATHS[path]}) == fixed
        assert (await walls(front, "shared")).keys() == {"continued"}


async def test_only_the_last_token_is_processed_behind_a_bound(tmp_path: Path) -> None:
    async with opened(house(tmp_path, {"wordy": 3000})) as front:
        said = json.loads((await front.ask("/completion", {"model": "shared", **TEXT})).text)
        assert said["tokens_predicted"] == 3000 - len(TEXT["prompt"])
        (last,) = [each for each in await described(front) if each["n_prompt_tokens"]]
        assert last["n_prompt_tokens_processed"] == 1


async def test_a_limit_is_kept_over_all_parts_of_an_answer(tmp_path: Path) -> None:
    """The cells are taken when it begins, so that it has but what its prompt leaves of its own."""
    async with opened(h := house(tmp_path, {"wordy": 3000, "token_seconds": 0.002})) as front, h.client() as lmxd:
        other = await lmxd.request("shared", ctx=CELLS - SHARE, bounded=True)
        body = {"model": "shared", "prompt": "x" * 400, "n_predict": 300, "stream": True}
        async with front.session.post("/completion", json=body, headers=front.headers()) as answer:
            text = await read_until(answer, '"tokens"')
            await lmxd.release(other.lease)
            text += (await answer.content.read()).decode()
        found = Heard()
        for line in text.splitlines():
            found.take(line)
        assert (len(found.tokens), found.ends, found.counts["tokens_predicted"]) == (300, ["limit"], 300)
        assert await walls(front, "shared") == {"continued": 1}
        assert instances(h) == ["shared#1"]


async def test_two_that_need_what_the_other_has_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Both meet their bounds, and there are not enough cells for both to go on."""
    async with opened(h := house(tmp_path, {"wordy": 3000, "token_seconds": 0.0002}, gb=13)) as front:
        path, texts = "/v1/completions", [{"prompt": f"{name} begins"} for name in ("ann", "bob")]
        fixed = await asyncio.gather(*(heard(front, path, {"model": "fixed", **text}) for text in texts))
        found = await asyncio.gather(*(heard(front, path, {"model": "shared", **text}) for text in texts))
        assert [each.text for each in found] == [each.text for each in fixed]
        assert [each.counts for each in found] == [each.counts for each in fixed]
        assert (await walls(front, "shared"))["continued"] >= 3
        assert instances(h) == ["shared#1"]
        await front.until(lambda: not h.state.leases)


async def test_who_only_asks_for_figures_needs_no_instance_alone(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front, h.client() as lmxd:
        held = await lmxd.request("shared", ctx=2048, bounded=True)
        assert (await front.ask("/tokenize", {"model": "shared", "content": "x"})).status == 200
        assert (await front.ask("/upstream/shared/slots", method="GET")).status == 200
        assert instances(h) == [held.instance]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["x", "y"]}),
        ("/v1/completions", {"prompt": "x", "n": "several"}),
        ("/v1/completions", {"prompt": {"prompt_string": "an image of it"}}),
        ("/infill", {"input_prefix": "x"}),
    ],
)
async def test_a_need_that_nobody_knows_has_an_instance_alone(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async with opened(h := house(tmp_path)) as front, h.client() as lmxd:
        held = await lmxd.request("shared", bounded=True)
        asking = asyncio.create_task(front.ask(path, {"model": "shared", **body}))
        await front.until(lambda: h.state.tickets)
        assert not asking.done(), "the instance has another holder"
        await lmxd.release(held.lease)
        await asking
        await front.until(lambda: not h.state.leases)


async def test_several_answers_have_a_slot_and_a_part_each(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await front.chat("shared", n=3, **CHAT)).status == 200
        asked = json.loads((await front.ask("/upstream/shared/fake/asked", method="GET")).text)
        assert asked["max_tokens"] >= 1024
        assert 3 * asked["max_tokens"] <= CELLS


async def test_a_prompt_that_fits_in_no_lease_is_refused_as_too_long(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/completion", {"model": "shared", "prompt": "x" * CELLS, "n_predict": 5})
        assert (answer.status, json.loads(answer.text)["error"]["type"]) == (400, "exceed_context_size_error")


async def test_an_answer_that_cannot_go_on_has_more_than_others_if_it_is_free(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with opened(h := house(tmp_path)) as front, h.client() as lmxd:
        assert (await front.chat("shared", tools=tools, **CHAT)).status == 200
        asked = json.loads((await front.ask("/upstream/shared/fake/asked", method="GET")).text)
        assert asked["max_tokens"] > CELLS - SHARE
        await lmxd.request("shared", ctx=CELLS - 3 * SHARE, bounded=True)
        assert (await front.chat("shared", tools=tools, **CHAT)).status == 200
        asked = json.loads((await front.ask("/upstream/shared/fake/asked", method="GET")).text)
        assert 1024 <= asked["max_tokens"] <= 3 * SHARE


async def test_what_cannot_be_continued_is_asked_for_again_and_processed_as_at_first(tmp_path: Path) -> None:
    async with opened(house(tmp_path, {"wordy": 3000, "trims": True})) as front:
        path, body = "/v1/chat/completions", CHAT | GREEDY
        fixed = await heard(front, path, {"model": "fixed", **body})
        found = await heard(front, path, {"model": "shared", **body})
        assert (found.text, found.counts, found.done, len(found.ids)) == (fixed.text, fixed.counts, 1, 1)
        assert (await walls(front, "shared")).keys() == {"again"}
        asked = json.loads((await front.ask("/upstream/shared/fake/asked", method="GET")).text)
        assert asked["cache_prompt"] is False


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_that_finds_no_more_tokens_in_time_ends_at_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, streams: bool
) -> None:
    monkeypatch.setattr(shared_growth, "AT_WALL", 0.3)
    async with opened(h := house(tmp_path, {"wordy": 3000}, gb=13)) as front, h.client() as lmxd:
        other = await lmxd.request("shared", ctx=CELLS - 3 * SHARE, bounded=True)
        path, body = "/v1/completions", {"model": "shared", **TEXT}
        if streams:
            found = await heard(front, path, body)
            assert (found.ends, found.done, found.counts["total_tokens"]) == (["length"], 1, 3 * SHARE)
        else:
            _, end, figures = await whole(front, path, body)
            assert (end, figures["total_tokens"]) == ("length", 3 * SHARE)
        assert await walls(front, "shared") == {"ended": 1}
        await front.until(lambda: [*h.state.leases] == [other.lease] and not h.state.tickets)


async def test_a_conversation_that_outgrows_its_whole_instance_is_carried_to_a_larger_one(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, gb=2, slots=2)) as front:
        prompt, processed = "", []
        for number in range(9):
            prompt += f"{number}" * 400
            answer = await front.ask("/completion", {"model": "shared", "prompt": prompt, "n_predict": 10})
            said = json.loads(answer.text)
            prompt += said["content"]
            processed.append(said["timings"]["prompt_n"])
        assert all(400 <= each <= 402 for each in processed), processed
        await front.until(lambda: instances(h) == ["shared#3"])


async def test_an_answer_that_fills_its_whole_instance_goes_on_in_a_larger_one(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, {"wordy": 3000}, gb=2, slots=4)) as front:
        path, body = "/v1/completions", TEXT
        fixed = await heard(front, path, {"model": "fixed", **body})
        found = await heard(front, path, {"model": "shared", **body})
        assert (found.text, found.counts) == (fixed.text, fixed.counts)
        assert (await walls(front, "shared")).keys() == {"continued"}
        await front.until(lambda: instances(h) == ["shared#2"])


async def test_as_many_at_once_as_the_first_cache_has_no_room_for_are_all_served_as_by_slots_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased, "GOES_ON", 3600.0)
    play = {"token_seconds": 0.001}
    async with opened(h := house(tmp_path, play, gb=2, slots=2)) as front:
        names = [f"{letter}{letter}x" for letter in "abcdefgh"]
        fixed = [await talk(front, "fixed", name, 5) for name in names]
        found = await asyncio.gather(*(talk(front, "shared", name, 5) for name in names))
        assert found == fixed
        spreads = [i.ask.spread for i in h.state.instances.values() if i.ask.unified and i.accepts]
        assert min(spreads) > 2, "the first one serves nobody any more"
        await front.until(lambda: not h.state.leases)


class Talks:
    """Conversations with ``shared``, each of so many tokens at first, and 110 more a turn."""

    def __init__(self, front: Front, first: int) -> None:
        self.front, self.first = front, first
        self.prompts: dict[str, str] = {}

    async def turn(self, name: str) -> int:
        """Have one go on: the tokens of its prompt that were processed."""
        prompt = self.prompts.get(name, "") + (name * 100 if name in self.prompts else name * self.first)
        body = {"model": "shared", "prompt": prompt, "n_predict": 10}
        said = json.loads((await self.front.ask("/completion", body)).text)
        self.prompts[name] = prompt + said["content"]
        processed: int = said["timings"]["prompt_n"]
        return processed


async def test_the_conversation_that_was_used_longest_ago_loses_its_cells(tmp_path: Path) -> None:
    """llama-server alone would take the first one's, which lies in the slot with the lowest number."""
    async with opened(h := house(tmp_path, gb=13)) as front:
        talks = Talks(front, 1100)
        assert [await talks.turn(name) for name in "abca"] == [1100, 1100, 1100, 100]
        assert await talks.turn("d") == 1100
        assert sorted(await slots(front)) == [0, 0, 0, 0, 0, 1110, 1110, 1220]
        assert [await talks.turn(name) for name in "acd"] == [100, 100, 100]
        assert await talks.turn("b") == 1210, "it lost them, and nothing of it is missing"
        assert instances(h) == ["shared#1"]


async def test_a_new_conversation_has_a_larger_cache_where_those_that_go_on_would_lose_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased, "GOES_ON", 3600.0)
    async with opened(h := house(tmp_path, slots=4)) as front:
        talks = Talks(front, 450)
        assert [await talks.turn(name) for name in "abc"] == [450] * 3
        assert [await talks.turn(name) for name in "abc"] == [100] * 3
        assert instances(h) == ["shared#1"]
        assert await talks.turn("d") == 450
        assert [i.ask.spread for i in h.state.instances.values() if i.ask.unified and i.accepts] == [8]


async def test_conversations_that_erase_each_other_have_a_larger_cache(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, slots=4)) as front:
        talks = Talks(front, 450)
        assert [await talks.turn(name) for name in "abcd"] == [450] * 4
        assert [await talks.turn(name) for name in "abc"] == [100, 100, 560], "there is no room for all four"
        assert instances(h) == ["shared#1"]
        assert await talks.turn("d") == 560
        assert [i.ask.spread for i in h.state.instances.values() if i.ask.unified and i.accepts] == [8]
        await asyncio.gather(*(talks.turn(name) for name in "abcd"))
        assert [await talks.turn(name) for name in "abcd"] == [100] * 4, "each keeps what it has"


async def test_single_requests_one_after_the_other_start_no_larger_cache(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, slots=4)) as front:
        talks = Talks(front, 450)
        assert [await talks.turn(name) for name in "abcdef"] == [450] * 6
        assert instances(h) == ["shared#1"]


async def test_who_loses_its_cells_while_it_waits_gets_a_larger_cache_if_there_is_room(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path, {"token_seconds": 0.01}, gb=2, slots=4)) as front:

        async def ask(prompt: str, most: int) -> None:
            body = {"model": "shared", "prompt": prompt, "max_tokens": most}
            assert (await front.ask("/v1/completions", body)).status == 200

        mine = "mine " * 120
        await ask(mine, 4)
        others = [asyncio.create_task(ask("long " * 240, 100))]
        await front.until(lambda: [lease.slots for lease in h.state.leases.values()] in ([3], [4]))
        others.append(asyncio.create_task(ask("next " * 240, 100)))
        await front.until(lambda: len(h.state.queue) == 1)
        others.append(asyncio.create_task(ask(mine + "a" * 80, 4)))
        await front.until(lambda: len(h.state.queue) == 2)
        await asyncio.gather(*others)
        await front.until(lambda: len(instances(h)) == 1)
        (left,) = instances(h)
        assert h.state.instances[left].ask.spread == 8
