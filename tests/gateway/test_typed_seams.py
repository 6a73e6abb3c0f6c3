"""Streams of the Responses API, and of Anthropic's, each put together of two parts as if it were one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.test_walled_answers import Part, Told
from lmxd.gateway.answers.continuation import continuation
from lmxd.gateway.answers.seams import Differs, Seam
from lmxd.gateway.answers.walls import Remainder, WalledAnswer
from lmxd.gateway.answers.written import Written
from lmxd.gateway.http.chunks import Chunks
from lmxd.gateway.http.upstream_call import UpstreamCall

Event: TypeAlias = dict[str, Any]
TEXTS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1)
DELTAS = ("response.output_text.delta", "content_block_delta")


def response(texts: list[str], who: str, prompted: int, said: int) -> list[Event]:
    """The events of an answer, as llama-server says them."""
    text, item, part = "".join(texts), f"msg_{who}", {"type": "output_text", "annotations": [], "logprobs": []}
    of = {"item_id": item}
    message = {"type": "message", "status": "completed", "id": item, "content": [part | {"text": text}]}
    usage = {"input_tokens": prompted, "output_tokens": said, "total_tokens": prompted + said}
    begun = {"id": f"resp_{who}", "object": "response", "status": "in_progress"}
    done = begun | {"status": "completed", "output": [message], "usage": usage}
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "item": {"id": item, "content": [], "type": "message"}},
        {"type": "response.content_part.added", **of, "part": {"type": "output_text", "text": ""}},
        *({"type": "response.output_text.delta", **of, "delta": each} for each in texts),
        {"type": "response.output_text.done", **of, "text": text},
        {"type": "response.content_part.done", **of, "part": part | {"text": text}},
        {"type": "response.output_item.done", "item": message},
        {"type": "response.completed", "response": done},
    ]


def message(texts: list[str], who: str, prompted: int, said: int, why: str = "max_tokens") -> list[Event]:
    usage = {"cache_read_input_tokens": prompted - 1, "input_tokens": 1, "output_tokens": 0}
    return [
        {"type": "message_start", "message": {"id": who, "type": "message", "content": [], "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}} for each in texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": why}, "usage": {"output_tokens": said}},
        {"type": "message_stop"},
    ]


Say: TypeAlias = Callable[[list[str], str, int, int], list[Event]]


def written(events: list[Event]) -> Written:
    found = Written()
    for each in events:
        found.take(json.dumps(each).encode())
    return found


def told(seam: Seam, events: list[Event]) -> list[Event]:
    return [json.loads(made) for each in events if (made := seam.event(json.dumps(each).encode())) is not None]


def text_of(events: list[Event]) -> str:
    """What is new in events, put together."""
    deltas = [each["delta"] for each in events if each["type"] in DELTAS]
    return "".join(each if isinstance(each, str) else each["text"] for each in deltas)


def closing(events: list[Event]) -> list[Event]:
    """The events behind the text."""
    return events[max(n for n, each in enumerate(events) if each["type"] in DELTAS) + 1 :]


def without_text(events: list[Event]) -> list[Event]:
    return [each for each in events if each["type"] not in DELTAS]


@pytest.mark.parametrize("say", [response, message])
@given(first=TEXTS, rest=TEXTS, cuts=st.lists(st.integers(0, 40)))
def test_two_parts_are_as_one_that_was_said_in_one_go(
    say: Say, first: list[str], rest: list[str], cuts: list[int]
) -> None:
    whole, places = "".join(first + rest), [0, *sorted(cuts)]
    pieces = [whole[begin:end] for begin, end in zip(places, [*places[1:], len(whole)], strict=True)]
    before = say(first, "one", 10, len(first))
    seam = Seam(written(before), repeats=True)
    after = told(seam, say(pieces, "two", 10 + len(first), len(rest)))
    once = say([whole], "one", 10, len(first) + len(rest))
    assert text_of(after) == "".join(rest)
    assert without_text(after) == closing(once)
    assert not seam.failed


@pytest.mark.parametrize("say", [response, message])
def test_the_end_of_a_full_context_is_known_with_its_tokens(say: Say) -> None:
    found = written(say(["a", "bc"], "one", 10, 2))
    assert (found.text, found.plain, found.ended, found.total) == ("abc", True, True, 12)


@pytest.mark.parametrize("say", [response, message])
def test_a_rest_that_says_another_text_or_less_is_refused(say: Say) -> None:
    for texts in (["ax"], ["a"]):
        seam = Seam(written(say(["a", "bc"], "one", 10, 2)), repeats=True)
        with pytest.raises(Differs):
            told(seam, say(texts, "two", 12, 3))
        assert seam.failed


@pytest.mark.parametrize(
    "more",
    [
        {"type": "response.output_item.added", "item": {"type": "function_call", "call_id": "c"}},
        {"type": "response.output_item.added", "item": {"type": "reasoning", "id": "r"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    ],
)
def test_an_answer_in_which_a_thought_or_a_call_has_begun_is_not_plain(more: Event) -> None:
    assert not written([more]).plain


NO_FIGURES: list[Event] = [
    {"usage": 7},
    {"usage": {"completion_tokens": None}},
    {"type": "response.completed", "response": {"usage": {"output_tokens": "many"}}},
    {"type": "message_start", "message": {"usage": []}},
]


@pytest.mark.parametrize("said", NO_FIGURES)
def test_figures_that_are_none_are_no_error_of_the_gateway(said: Event) -> None:
    """It reads them where nobody waits for an error: the answer ends where it is."""
    assert not written([said]).plain


@pytest.mark.parametrize("said", [*NO_FIGURES[1:3], {"type": "x", "usage": {"output_tokens": None}}])
def test_a_rest_with_figures_that_are_none_is_refused(said: Event) -> None:
    first = written(message(["a"], "one", 10, 2))
    for tell in (Seam(first, repeats=False).event, Seam(first, repeats=False).whole):
        with pytest.raises(Differs):
            tell(json.dumps(said).encode())


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_whole_answers_become_one(path: str) -> None:
    def of(text: str, prompted: int, said: int) -> Event:
        usage: Event = {"input_tokens": prompted, "output_tokens": said}
        if path == "/v1/messages":
            content = [{"type": "text", "text": text}]
            return {"id": text, "type": "message", "content": content, "stop_reason": "max_tokens", "usage": usage}
        item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text}]}
        usage["total_tokens"] = prompted + said
        return {"id": text, "object": "response", "output": [item], "usage": usage}

    first = written([of("ab", 10, 2)])
    assert (first.text, first.ended, first.total) == ("ab", True, 12)
    found = json.loads(Seam(first, repeats=True).whole(json.dumps(of("abcd", 12, 2)).encode()))
    assert found == of("abcd", 10, 4) | {"id": "ab"}


def going_on(path: str, body: Event) -> Event | None:
    first = written(message(["a", "bc"], "one", 10, 2))
    made = continuation(UpstreamCall(path=path, body=json.dumps(body).encode()), first)
    return None if made is None else dict(json.loads(made.body))


def test_a_response_goes_on_behind_its_items() -> None:
    path, question = "/v1/responses", {"role": "user", "content": "?"}

    def said(text: str) -> Event:
        return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}

    assert going_on(path, {"input": "?", "max_output_tokens": 5}) == {
        "input": [question, said("abc")],
        "max_output_tokens": 3,
    }
    assert going_on(path, {"input": [question, said("a")]}) == {"input": [question, said("abc")]}
    assert going_on(path, {"input": [question, said("z")]}) == {"input": [question, said("zabc")]}
    assert going_on(path, {"input": [question, {"role": "assistant", "content": "z"}]}) is None
    assert going_on(path, {"input": []}) is None
    assert going_on(path, {}) is None


def test_a_message_goes_on_but_not_within_a_word_that_stops_it() -> None:
    body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 5}
    made = going_on("/v1/messages", body)
    assert made is not None
    assert made["messages"][-1] == {"role": "assistant", "content": "abc"}
    assert made["max_tokens"] == 3
    assert going_on("/v1/messages", body | {"stop_sequences": ["cd"]}) is None


def lines(events: list[Event]) -> bytes:
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


class Joined:
    """A stream of Anthropic's API whose first part has ended, and what is told of it."""

    def __init__(self, rest: Part | None) -> None:
        self.first, self.rest = Part(), rest
        self.body = bytearray()
        self.answer = WalledAnswer(self.first, self.onward)
        self.reading = asyncio.create_task(self.answer.body(self.body.extend))

    async def onward(self, written: Written, told: Told) -> Remainder | None:
        return None if self.rest is None else Remainder(self.rest, Seam(written, repeats=True))

    @property
    def told(self) -> str:
        found = bytearray()
        Chunks(found.extend).feed(bytes(self.body))
        return found.decode()


async def test_each_event_keeps_its_name() -> None:
    joined = Joined(rest := Part())
    await joined.first.handed.wait()
    joined.first.say(lines(message(["a", "b"], "one", 10, 2)))
    joined.first.end.set_result(True)
    await rest.handed.wait()
    for byte in lines(message(["ab", "c"], "two", 12, 1, "end_turn")):
        rest.say(bytes([byte]))
    rest.end.set_result(True)
    assert await joined.reading
    events = message(["a", "b", "c"], "one", 10, 3, "end_turn")
    told = [each.splitlines() for each in joined.told.removesuffix("\n\n").split("\n\n")]
    assert [name for name, _ in told] == [f"event: {each['type']}" for each in events]
    assert [json.loads(data.removeprefix("data: ")) for _, data in told] == events


async def test_a_call_behind_a_text_is_told_as_it_comes() -> None:
    joined = Joined(None)
    await joined.first.handed.wait()
    *text, end, last = message(["a"], "one", 10, 2, "tool_use")
    call = {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t"}}
    joined.first.say(lines(text))
    assert "content_block_stop" not in joined.told
    joined.first.say(lines([call]))
    assert joined.told.encode() == lines([*text, call])
    joined.first.say(lines([end, last]))
    joined.first.end.set_result(True)
    assert await joined.reading
    assert joined.told.encode() == lines([*text, call, end, last])
