"""Streams of the Responses API: OpenAI's own client puts them together, whatever llama-server leaves out."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import opened
from gateway.test_bad_answers import OK, says
from gateway.test_serving import house
from lmxd.gateway.answers.message_events import MessageEvents
from lmxd.gateway.answers.response_events import ResponseEvents
from lmxd.gateway.http.chunks import BadAnswer, chunk

CREATED: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "in_progress"}
TEXT: dict[str, Any] = {"type": "output_text", "text": "Hi"}
MESSAGE: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
CALL: dict[str, Any] = {"type": "function_call", "call_id": "fc_1", "name": "look", "status": "completed"}
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": CREATED},
    {"type": "response.in_progress", "response": CREATED},
    {"type": "response.output_item.added", "item": MESSAGE | {"content": [], "status": "in_progress"}},
    {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hi"},
    {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hi"},
    {"type": "response.content_part.done", "item_id": "msg_1", "part": TEXT},
    {"type": "response.output_item.done", "item": MESSAGE | {"content": [TEXT]}},
    {"type": "response.output_item.added", "item": CALL | {"arguments": "", "status": "in_progress"}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"at": "x"}'},
    {"type": "response.output_item.done", "item": CALL | {"arguments": '{"at": "x"}'}},
    {
        "type": "response.completed",
        "response": CREATED
        | {"status": "completed", "created_at": 5, "model": "a"}
        | {"output": [MESSAGE | {"content": [TEXT]}, CALL | {"arguments": '{"at": "x"}'}]},
    },
]
"""As llama-server sends them: no numbers, and a response that is created without its parts."""
WRITTEN = [f"event: {x['type']}\ndata: {json.dumps(x)}\n\n".encode() for x in EVENTS]
HEAD = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = HEAD + b"".join(map(chunk, WRITTEN)) + b"0\r\n\r\n"


async def test_an_answer_that_begins_with_half_a_character_begins_once(tmp_path: Path) -> None:
    """llama-server says before each token that it begins, where the first is a part of an emoji."""
    anew = WRITTEN[:2]
    pieces = [*WRITTEN[:4], *anew, WRITTEN[4], *anew, *WRITTEN[5:]]
    async with opened(house(tmp_path)) as front:
        await says(front, HEAD + b"".join(map(chunk, pieces)) + b"0\r\n\r\n")
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0)
        async with client, client.responses.stream(model="a", input="x") as stream:
            kinds = [event.type async for event in stream]
    assert kinds == [event["type"] for event in EVENTS]


def test_a_message_begins_once() -> None:
    events, begun = MessageEvents("a"), b'event: message_start\ndata: {"type": "message_start"}\n\n'
    told = b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n'
    assert events.feed(begun + told + begun + told) == begun + told + told


async def test_openais_client_puts_the_answer_together(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, STREAM)
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0)
        async with client, client.responses.stream(model="a", input="x") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert kinds[-1] == "response.completed"
        assert final.output_text == "Hi"
        [call] = [x for x in final.output if x.type == "function_call"]
        assert (call.id, call.name, call.arguments) == ("fc_1", "look", '{"at": "x"}')


async def test_events_are_numbered_and_have_their_places(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, STREAM)
        answer = await front.ask("/v1/responses", {"model": "a", "input": "x", "stream": True})
        found = [json.loads(x.removeprefix("data: ")) for x in answer.text.splitlines() if x.startswith("data: ")]
        assert [x["sequence_number"] for x in found] == list(range(len(EVENTS)))
        assert [x.get("output_index") for x in found] == [None] * 2 + [0] * 6 + [1] * 3 + [None]
        assert [x.get("content_index") for x in found] == [None] * 3 + [0] * 4 + [None] * 5
        assert found[0]["response"]["model"] == "a"
        assert found[0]["response"]["output"] == []
        assert found[-1]["response"]["created_at"] == 5, "all that the engine says stays"
        for sent, told in zip(EVENTS, found, strict=True):
            assert {key: value for key, value in told.items() if isinstance(sent.get(key), str)} == {
                key: value for key, value in sent.items() if isinstance(value, str)
            }


async def test_a_stream_whose_begin_is_left_out_gets_one(tmp_path: Path) -> None:
    """llama-server leaves it out where the first token is a part of a letter."""
    events = b"".join(map(chunk, WRITTEN[2:]))
    async with opened(house(tmp_path)) as front:
        await says(front, HEAD + events + b"0\r\n\r\n")
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0)
        async with client, client.responses.stream(model="a", input="x") as stream:
            assert (await stream.get_final_response()).output_text == "Hi"


async def test_so_does_one_of_anthropics_api(tmp_path: Path) -> None:
    """Its client took the answer for an empty success."""
    events = (
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    written = [f"event: {x['type']}\ndata: {json.dumps(x)}\n\n".encode() for x in events]
    begin = (
        b'event: message_start\ndata: {"type": "message_start", "message": %b}\n\n'
        % json.dumps(MessageEvents("b").beginning()["message"]).encode()
    )
    async with opened(house(tmp_path)) as front:
        for before, model in ((b"", "a"), (begin, "b")):
            await says(front, HEAD + b"".join(map(chunk, [before, *written] if before else written)) + b"0\r\n\r\n")
            async with (
                anthropic.AsyncAnthropic(base_url=front.url, api_key=front.key, max_retries=0) as client,
                client.messages.stream(model="a", max_tokens=5, messages=[{"role": "user", "content": "x"}]) as stream,
            ):
                found = await stream.get_final_message()
            assert [x.text for x in found.content if x.type == "text"] == ["Hi"]
            assert (found.model, found.stop_reason, found.usage.output_tokens) == (model, "end_turn", 2)


async def test_a_client_without_chunks_has_them_too(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, STREAM)
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        body = b'{"model": "a", "input": "x", "stream": true}'
        head = (
            f"POST /v1/responses HTTP/1.0\r\nAuthorization: Bearer {front.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        told = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")[2]
        writer.close()
        lines = [x for x in told.splitlines() if x]
        assert len(lines) == 2 * len(EVENTS)
        assert json.loads(lines[-1].removeprefix(b"data: "))["sequence_number"] == len(EVENTS) - 1


async def test_a_stream_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, HEAD + b"".join(map(chunk, WRITTEN[:5])))
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0) as client:
            kinds = [each.type async for each in await client.responses.create(model="a", input="x", stream=True)]
            assert kinds[-1] == "error"
            assert "response.completed" not in kinds


WHOLE = b"".join(WRITTEN) + b": a comment\n\ndata: [DONE]\n\ndata: {nonsense\n\ndata: [3]\n\n"


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_it_is_the_same_however_it_comes_in_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    events = ResponseEvents("a")
    got = b"".join(events.feed(WHOLE[a:b]) for a, b in pairwise(places))
    assert events.rest == b""
    once = ResponseEvents("a").feed(WHOLE)
    assert [x for x in got.splitlines() if b"created" not in x] == [x for x in once.splitlines() if b"created" not in x]
    assert got.endswith(b": a comment\n\ndata: [DONE]\n\ndata: {nonsense\n\ndata: [3]\n\n")


@given(st.binary(max_size=200))
def test_any_line_is_taken(line: bytes) -> None:
    events = ResponseEvents("a")
    assert events.feed(b"data: " + line + b"\n").count(b"\n") == line.count(b"\n") + 1


def test_a_line_without_an_end_is_bounded_and_a_long_one_goes_on_as_it_came() -> None:
    events, long = ResponseEvents("a"), b'data: {"type": "x", "x": "' + b"y" * 2**21 + b'"}\n'
    assert events.feed(long) == long
    assert events.feed(b"x" * 2**24) == b""
    with pytest.raises(BadAnswer):
        events.feed(b"x")


def test_items_without_end_are_numbered_up_to_a_bound() -> None:
    events = ResponseEvents("a")
    for number in range(3000):
        told = events.feed(b'data: {"type": "response.output_text.delta", "item_id": "%d"}\n' % number)
    assert json.loads(told.removeprefix(b"data: "))["output_index"] == 1024


def test_an_engine_that_says_long_ids_has_little_of_them_kept() -> None:
    events = ResponseEvents("a")
    tracemalloc.start()
    try:
        for number in range(64):
            event = {"type": "response.output_item.added", "item": {"id": f"{number}" + "x" * 2**19}}
            made = json.loads(events.feed(b"data: " + json.dumps(event).encode() + b"\n").removeprefix(b"data: "))
            assert made["output_index"] == number
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2**22
