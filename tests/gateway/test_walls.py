"""Answers that fill their context while they are written: an elastic model's go on, and are those of a fixed one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model

from gateway.front import Front, opened, read_until
from lmxd.gateway import growing

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me all of it, from the beginning to the end."}]}
TEXT: dict[str, Any] = {"prompt": "It was a dark and stormy night, and the"}
GREEDY: dict[str, Any] = {"temperature": 0}
PATHS: dict[str, dict[str, Any]] = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/completion": TEXT}


def house(tmp_path: Path, play: dict[str, Any] | None = None, slots: int = 1, gb: float = 2) -> House:
    """Two models that answer alike, up to 3,000 tokens with the prompt: ``elastic`` meets walls at 1,280 and 2,560."""
    fixed = {"context_length": 4096, "slots": slots, "estimated_memory_gb": gb}
    for name in ("elastic", "fixed"):
        model(tmp_path, name, counts=True, **({"wordy": 3000} | (play or {})))
    models = {"elastic": fixed | {"elastic": {"start": 1280, "steps": [2560]}}, "fixed": fixed}
    return House(tmp_path, FakeNvml(card()), models=models)


@dataclass(slots=True)
class Heard:
    """A stream as a client takes it."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)
    done: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    growing: int = 0

    @property
    def told(self) -> tuple[object, ...]:
        """All that does not differ from one request to the next."""
        return self.text, self.tokens, self.ends, self.done, self.counts

    def take(self, line: str) -> None:
        self.growing += line.startswith(": growing")
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            self.done += 1
            return
        said = json.loads(line.removeprefix("data: "))
        self.ids.add(said.get("id", ""))
        for words in (said, *said.get("choices", []), *(each.get("delta", {}) for each in said.get("choices", []))):
            self.text += words.get("content") or words.get("text") or ""
            if end := words.get("finish_reason") or words.get("stop_type"):
                self.ends.append(end)
        self.tokens += said.get("tokens", [])
        self.counts |= counts(said)


def counts(said: dict[str, Any]) -> dict[str, int]:
    """The figures of an answer that do not depend on what its engine had in its cache."""
    names = ("tokens_evaluated", "tokens_predicted")
    own = {name: said[name] for name in names if name in said}
    timings = {"predicted_n": said["timings"]["predicted_n"]} if "timings" in said else {}
    usage: dict[str, int] = said.get("usage", {})
    return own | usage | timings


async def heard(front: Front, path: str, body: dict[str, Any]) -> Heard:
    found = Heard()
    asked = body | {"stream": True}
    async with front.session.post(path, json=asked, headers=front.headers()) as answer:
        assert answer.status == 200
        for line in (await answer.text()).splitlines():
            found.take(line)
    return found


async def whole(front: Front, path: str, body: dict[str, Any]) -> tuple[str, str, dict[str, int]]:
    """(the text, the reason of its end, the figures) of an answer."""
    answer = await front.ask(path, body)
    assert answer.status == 200, answer.text
    said = json.loads(answer.text)
    words = (said.get("choices") or [said])[0]
    text = (words.get("message") or words).get("content") or words.get("text")
    return text, words.get("finish_reason") or words.get("stop_type"), counts(said)


async def walls(front: Front, model: str = "elastic") -> dict[str, int]:
    """What became of the answers of a model that met a wall -> how many."""
    said = (await front.ask("/metrics", method="GET")).text
    found = re.findall(rf'lmxd_gateway_walls_total{{how="(\w+)",model="{model}"}} (\d+)', said)
    return {how: int(count) for how, count in found}


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_goes_on_beyond_two_walls_as_if_there_were_none(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        body = PATHS[path]
        fixed = await heard(front, path, {"model": "fixed", **body})
        found = await heard(front, path, {"model": "elastic", **body})
        assert found.told == fixed.told
        assert len(found.text) > 2800
        assert len(found.ids) == 1
        assert found.growing >= 2
        assert await walls(front) == {"continued": 2}


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer_goes_on_beyond_two_walls(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        body = PATHS[path]
        fixed = await whole(front, path, {"model": "fixed", **body})
        assert await whole(front, path, {"model": "elastic", **body}) == fixed
        assert fixed[1] in ("stop", "eos")
        assert await walls(front) == {"continued": 2}


async def test_the_answer_is_carried_and_only_its_last_token_processed(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        await heard(front, "/completion", {"model": "elastic", **TEXT})
        asked = json.loads((await front.ask("/upstream/elastic/fake/asked", method="GET")).text)
        said = json.loads((await front.ask("/completion", asked | {"stream": False, "n_predict": 1})).text)
        assert said["timings"]["prompt_n"] == 1
        assert [i.ask.context for i in h.state.instances.values() if i.live and i.ask.profile == "elastic"] == [4096]


async def test_a_prompt_in_tokens_goes_on_by_tokens(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        body = {"prompt": [65 + n % 26 for n in range(200)]}
        fixed = await heard(front, "/completion", {"model": "fixed", **body})
        found = await heard(front, "/completion", {"model": "elastic", **body})
        assert (found.tokens, found.counts) == (fixed.tokens, fixed.counts)
        assert await walls(front) == {"continued": 2}


async def test_an_answer_that_a_client_has_begun_goes_on_too(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        body = {"messages": [*CHAT["messages"], {"role": "assistant", "content": "Once upon"}]}
        fixed = await heard(front, "/v1/chat/completions", {"model": "fixed", **body})
        found = await heard(front, "/v1/chat/completions", {"model": "elastic", **body})
        assert fixed.text.startswith("Once upon")
        assert (found.text, found.counts) == (fixed.text, fixed.counts)


async def test_ollamas_clients_have_the_same(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        body = CHAT | {"stream": False}
        said = [
            json.loads((await front.ask("/api/chat", {"model": name, **body})).text) for name in ("fixed", "elastic")
        ]
        assert said[0]["message"] == said[1]["message"]
        assert said[0]["done_reason"] == said[1]["done_reason"] == "stop"
        assert said[0]["eval_count"] == said[1]["eval_count"] > 2800
        assert await walls(front) == {"continued": 2}


async def test_an_answer_that_its_request_limits_is_over_even_where_its_context_is_full(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        body = {"model": "elastic", "prompt": [65] * 280, "n_predict": 1000}
        found = await heard(front, "/completion", body)
        assert (len(found.tokens), found.ends) == (1000, ["limit"])
        assert await walls(front) == {}
        assert [i.ask.context for i in h.state.instances.values() if i.live] == [1280]


async def test_what_is_left_of_a_limit_is_the_limit_of_the_rest(tmp_path: Path) -> None:
    """The growth beforehand is refused, for another has the bytes; they are free when the wall is met."""
    async with opened(h := house(tmp_path, {"token_seconds": 0.002}, slots=2, gb=8)) as front, h.client() as lmxd:
        await lmxd.request("elastic")  # its instance cannot end first
        other = await lmxd.hold(10 * 2**30)
        body = {"model": "elastic", "prompt": "x" * 800, "n_predict": 1070, "stream": True}
        async with front.session.post("/completion", json=body, headers=front.headers(Prefer="wait=0")) as answer:
            text = await read_until(answer, '"tokens"')
            await lmxd.release(other.lease)
            text += (await answer.content.read()).decode()
        found = Heard()
        for line in text.splitlines():
            found.take(line)
        assert (len(found.tokens), found.counts["tokens_predicted"], found.ends) == (1070, 1070, ["limit"])
        assert await walls(front) == {"continued": 1}


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_whose_growth_is_refused_ends_at_its_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """The growth waits for whoever else has a slot of its instance, but not for as long as the gateway waits."""
    monkeypatch.setattr(growing, "AT_WALL", 0.3)
    async with opened(h := house(tmp_path, slots=2, gb=13)) as front, h.client() as lmxd:
        other = await lmxd.request("elastic")
        body = {"model": "elastic", **CHAT}
        path = "/v1/chat/completions"
        if streams:
            found = await heard(front, path, body)
            assert (found.ends, found.done, found.counts["total_tokens"]) == (["length"], 1, 1280)
        else:
            _, end, figures = await whole(front, path, body)
            assert (end, figures["total_tokens"]) == ("length", 1280)
        assert await walls(front) == {"ended": 1}
        await front.until(lambda: [*h.state.leases] == [other.lease] and not h.state.tickets)


async def test_a_text_that_an_engine_reads_otherwise_is_asked_for_again(tmp_path: Path) -> None:
    """Its template leaves a word out, so that the prompt is shorter than what has been written."""
    async with opened(house(tmp_path, {"trims": True})) as front:
        path, body = "/v1/chat/completions", CHAT | GREEDY
        fixed = await heard(front, path, {"model": "fixed", **body})
        found = await heard(front, path, {"model": "elastic", **body})
        assert (found.text, found.counts, found.done, len(found.ids)) == (fixed.text, fixed.counts, 1, 1)
        assert await walls(front) == {"again": 2}
        assert await whole(front, path, {"model": "elastic", **CHAT}) == await whole(
            front, path, {"model": "fixed", **CHAT}
        )


async def test_a_stream_that_would_be_another_is_not_asked_for_again(tmp_path: Path) -> None:
    async with opened(house(tmp_path, {"trims": True})) as front:
        found = await heard(front, "/v1/chat/completions", {"model": "elastic", **CHAT})
        assert (found.ends, found.done, found.counts["total_tokens"]) == (["length"], 1, 1280)
        assert await walls(front) == {"ended": 1}


@pytest.mark.parametrize(
    "more", [{"logprobs": True}, {"response_format": {"type": "json_object"}}, {"grammar": "root ::= [a-z]*"}]
)
async def test_what_a_rest_would_not_obey_is_asked_for_again(tmp_path: Path, more: dict[str, Any]) -> None:
    async with opened(house(tmp_path)) as front:
        path, body = "/v1/chat/completions", CHAT | GREEDY | more
        fixed = await heard(front, path, {"model": "fixed", **body})
        found = await heard(front, path, {"model": "elastic", **body})
        assert (found.text, found.counts, found.done) == (fixed.text, fixed.counts, 1)
        assert (await walls(front)).keys() == {"again"}


@pytest.mark.parametrize(
    "delta", [{"reasoning_content": "Hm."}, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}]
)
async def test_a_stream_of_more_than_a_text_ends_at_its_wall(tmp_path: Path, delta: dict[str, Any]) -> None:
    play = {"opens": [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}]}
    async with opened(house(tmp_path, play)) as front:
        found = await heard(front, "/v1/chat/completions", {"model": "elastic", **CHAT, **GREEDY})
        assert (found.ends, found.done) == (["length"], 1)
        assert await walls(front) == {"ended": 1}


@pytest.mark.parametrize("streams", [True, False])
async def test_an_engine_that_does_not_repeat_what_it_goes_on_with_makes_no_seam(tmp_path: Path, streams: bool) -> None:
    async with opened(house(tmp_path, {"repeats": False})) as front:
        path, body = "/v1/chat/completions", {"model": "elastic", **CHAT}
        if streams:
            found = await heard(front, path, body)
            assert (found.ends, found.done, found.counts["total_tokens"]) == (["length"], 1, 1280)
        else:
            text, end, figures = await whole(front, path, body)
            assert (end, figures["total_tokens"]) == ("length", 1280)
            assert len(text) == figures["completion_tokens"]
        assert (await walls(front)).keys() == {"ended"}


async def test_a_whole_answer_of_another_api_is_asked_for_again(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        body = {"input": "Tell me all of it."}
        fixed = await whole(front, "/v1/responses", {"model": "fixed", **body})
        assert await whole(front, "/v1/responses", {"model": "elastic", **body}) == fixed
        assert (await walls(front)).keys() == {"again"}


async def test_a_client_that_leaves_while_its_answer_grows_leaves_nothing(tmp_path: Path) -> None:
    async with opened(h := house(tmp_path)) as front:
        await front.ask("/completion", {"model": "elastic", "prompt": [65], "n_predict": 1})
        (tmp_path / "elastic.json").write_text(json.dumps({"counts": True, "load_seconds": 30}))
        async with front.session.post(
            "/v1/chat/completions", json={"model": "elastic", "stream": True, **CHAT}, headers=front.headers()
        ) as answer:
            await read_until(answer, ": growing")
        await front.until(lambda: not h.state.leases and not h.state.tickets)


async def test_an_instance_that_dies_beyond_the_wall_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    async with (
        opened(h := house(tmp_path, {"token_seconds": 0.001})) as front,
        front.session.post(
            "/v1/chat/completions", json={"model": "elastic", "stream": True, **CHAT}, headers=front.headers()
        ) as answer,
    ):
        await read_until(answer, ": growing")
        await read_until(answer, '"content"')
        (lease,) = h.state.leases.values()
        launched = h.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        os.kill(launched.process.pid, signal.SIGKILL)
        assert b'"error"' in await answer.content.read()


async def test_four_at_once_go_on_each_by_itself(tmp_path: Path) -> None:
    async with opened(house(tmp_path, slots=4, gb=1), instances=8) as front:
        bodies = [{"messages": [{"role": "user", "content": f"{name} asks"}]} for name in ("ann", "bob", "cyd", "dan")]
        path = "/v1/chat/completions"
        fixed = [await heard(front, path, {"model": "fixed", **body}) for body in bodies]
        found = await asyncio.gather(*(heard(front, path, {"model": "elastic", **body}) for body in bodies))
        assert [each.text for each in found] == [each.text for each in fixed]
        assert [each.counts for each in found] == [each.counts for each in fixed]
