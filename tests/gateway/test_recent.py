"""Recent requests: what is remembered of each, how much at the most, and who sees it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, model
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import Front, opened
from gateway.played_board import request
from gateway.test_bad_answers import says
from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import Caller
from lmxd.gateway.http.edges import Edges
from lmxd.gateway.recent import MOST, PROMPT, SHOWN, RecentRequests, prompt_in
from lmxd.gateway.requests.authentication import ANYBODY

ROOT = Caller("root", admin=True)


def house(tmp_path: Path) -> House:
    model(tmp_path, "a", token_seconds=0.01)
    return House(tmp_path, FakeNvml(card()), models={"a": {"estimated_memory_gb": 12, "aliases": ["gpt"]}})


async def recent(front: Front, key: str) -> list[dict[str, Any]]:
    answer = await front.ask("/lmxd/state", method="GET", Authorization=f"Bearer {key}")
    found: list[dict[str, Any]] = json.loads(answer.text)["requests"]
    return found


async def status(front: Front) -> int:
    """Of the one request for tokens, once it is over."""
    async with asyncio.timeout(10):
        while not (found := [r for r in await recent(front, front.admin) if r["path"].startswith("/v1/")]):
            pass
    (one,) = found
    return int(one["status"])


async def test_each_request_is_remembered_with_its_figures_and_without_its_prompt(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await front.chat("gpt", messages=[{"role": "user", "content": "a secret"}])
        async with front.stream("a", 5) as stream:
            await stream.text()
        await front.chat("unheard-of")
        unknown, streamed, whole = await recent(front, front.admin)
        assert (whole["model"], whole["key"], whole["status"], whole["number"]) == ("a", "user", 200, 1)
        assert 0 < whole["waited"] <= whole["took"]
        assert (streamed["asked"], streamed["answered"]) == (1, 5)
        assert (unknown["model"], unknown["status"], unknown["waited"]) == ("unheard-of", 404, None)
        assert "secret" not in json.dumps([unknown, streamed, whole])
        assert [r["number"] for r in await recent(front, front.key)] == [3, 2, 1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
async def test_an_answer_that_its_client_left_is_told_from_one_that_was_read(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        body = {"model": "a", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5000, "stream": True}
        body["options"] = {"num_predict": 5000}
        async with front.session.post(path, json=body, headers=front.headers()) as stream:
            await stream.content.readany()
            stream.close()
        assert await status(front) == 499


async def test_an_answer_that_its_engine_broke_off_is_no_success(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
        with pytest.raises(aiohttp.ClientError):
            await front.chat("a")
        assert await status(front) == 502


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messages", "/api/chat", "/api/embed"])
async def test_the_status_is_the_one_that_the_client_was_told(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        error = b'{"error": {"code": 501, "message": "This server cannot", "type": "not_supported_error"}}'
        await says(front, b"HTTP/1.1 501 X\r\nContent-Length: %d\r\n\r\n%b" % (len(error), error))
        body = {"model": "a", "input": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        assert (await front.ask(path, body)).status == 400
        assert await status(front) == 400


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/chat/completions", {"messages": [{"content": "old"}, {"content": [{"text": "of"}, {"text": "mine"}]}]},
         "of\nmine"),
        ("/v1/completions", {"prompt": "of mine"}, "of mine"),
        ("/v1/embeddings", {"input": ["of", "mine"]}, "of\nmine"),
        ("/v1/responses", {"input": [{"role": "user", "content": "of mine"}]}, "of mine"),
        ("/api/chat", {"messages": [{"role": "user", "content": "of mine"}]}, "of mine"),
        ("/tokenize", {"content": "of mine"}, "of mine"),
    ],
)  # fmt: skip
async def test_prompts_are_kept_where_the_configuration_says_so(
    tmp_path: Path, path: str, body: dict[str, Any], text: str
) -> None:
    async with opened(house(tmp_path), capture_prompts=True) as front:
        await front.ask(path, {"model": "a", **body})
        assert [r["prompt"] for r in await recent(front, front.admin)] == [text]


def test_prompts_are_off_unless_switched_on() -> None:
    assert not GatewayConfig().capture_prompts


def test_they_are_bounded_in_number_and_in_size() -> None:
    found = RecentRequests(prompts=True)
    for number in range(MOST + 10):
        request(found, body=json.dumps({"prompt": str(number) * 10_000}).encode())
    assert found.count == MOST + 10
    seen = found.seen_by(ROOT)
    assert [r["number"] for r in seen] == list(range(MOST + 10, MOST + 10 - SHOWN, -1))
    assert max(len(r["prompt"]) for r in seen) < PROMPT + 40
    for _ in range(SHOWN):
        request(found, key="anna")
    for _ in range(MOST - 1):
        request(found, key="bert")
    assert len(found.seen_by(Caller("anna", admin=False))) == 1, "others' requests put out older ones"


def test_a_key_sees_its_own_and_nobody_sees_prompts_without_a_key() -> None:
    found = RecentRequests(prompts=True)
    for key in ("anna", "bert"):
        request(found, key=key, body=b'{"prompt": "mine"}')
    (own,) = found.seen_by(Caller("anna", admin=False))
    assert (own["key"], own["prompt"]) == ("anna", "mine")
    assert found.seen_by(Caller("carl", admin=False)) == found.seen_by(ANYBODY) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/responses", {"input": "last"}),
        ("/v1/responses", {"input": [{"role": "user", "content": "first"}, {"role": "user", "content": "last"}]}),
        (
            "/v1/responses",
            {
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "last"}]},
                    {"type": "function_call_output", "call_id": "x", "output": "7"},
                ]
            },
        ),
        (
            "/v1/messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "content": [{"type": "text", "text": "last"}]}],
                    }
                ]
            },
        ),
        ("/v1/embeddings", {"input": ["last"]}),
        ("/v1/completions", {"prompt": ["last"]}),
    ],
)
async def test_the_last_message_is_the_prompt_in_every_api(tmp_path: Path, path: str, said: dict[str, Any]) -> None:
    async with opened(house(tmp_path), capture_prompts=True) as front:
        await front.ask(path, {"model": "a", **said})
        assert [each["prompt"] for each in await recent(front, front.admin)] == ["last"]


LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9)
FIELDS = st.sampled_from(["messages", "content", "text"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner))
BODIES = VALUES.map(lambda value: json.dumps({"messages": value, "prompt": value, "input": value}).encode())


@given(st.binary(max_size=200) | BODIES)
def test_whatever_a_client_sends_is_a_prompt_or_none(body: bytes) -> None:
    assert isinstance(prompt_in(body), str)


ENDS = [
    (b'{"usage": {"prompt_tokens":3,"completion_tokens":70}}', (3, 70)),
    (b'data: {"timings":{"cache_n":0,"prompt_n":12,"predicted_n":34,"predicted_per_second":9.5}}\n\n', (12, 34)),
    (b'data: {"usage":{"input_tokens":9,"output_tokens":1}}\n\ndata: {"usage":{"output_tokens":44}}\n\n', (9, 44)),
    (b'{"usage":{"cache_read_input_tokens":31,"input_tokens":1,"output_tokens":3}}', (32, 3)),
    (b'{"usage":{"input_tokens":32,"output_tokens":3,"input_tokens_details":{"cached_tokens":31}}}', (32, 3)),
    (b'data: {"timings":{"cache_n":20,"prompt_n":12,"predicted_n":34}}\n\n', (32, 34)),
    (b'{"tokens_predicted": 5, "tokens_evaluated": 6}', (6, 5)),
    (b'{"content": "\\"completion_tokens\\": 99"}', (None, None)),
    (b"", (None, None)),
]


@given(st.integers(1, 400), st.integers(0, 3))
def test_tokens_are_found_however_an_answer_comes_in_pieces(step: int, middle: int) -> None:
    for text, counts in ENDS:
        whole = b'{"model": "a"}' + b"x" * 5000 * middle + text
        edges = Edges()
        for at in range(0, len(whole), step):
            edges.keep(whole[at : at + step])
        assert edges.tokens == counts
