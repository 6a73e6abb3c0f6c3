"""The parts of an answer put together: its client cannot tell where the one ended and the other began."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmxd.gateway.answers.continuation import continuation, is_repeatable
from lmxd.gateway.answers.seams import Differs, Seam
from lmxd.gateway.answers.written import Written
from lmxd.gateway.http.upstream_call import UpstreamCall

CHAT = "/v1/chat/completions"
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def event(text: str | None = None, end: str | None = None, identity: str = "one", **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    return json.dumps(
        {"id": identity, "choices": [{"index": 0, "delta": delta, "finish_reason": end}], **more}
    ).encode()


def usage(prompted: int, said: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompted, "completion_tokens": said, "total_tokens": prompted + said}}


def written(texts: list[str], prompted: int = 10) -> Written:
    found = Written()
    for text in texts:
        found.take(event(text))
    found.take(event(end="length", **usage(prompted, len(texts))))
    found.take(b"[DONE]")
    return found


def told(seam: Seam, events: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(made) for each in events if (made := seam.event(each)) is not None]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for each in events for choice in each["choices"])


@given(first=st.lists(TEXTS, min_size=1), rest=st.lists(TEXTS, min_size=1), cuts=st.lists(st.integers(0, 40)))
def test_a_text_that_is_repeated_in_whatever_pieces_is_told_once(
    first: list[str], rest: list[str], cuts: list[int]
) -> None:
    whole, places = "".join(first + rest), [0, *sorted(cuts)]
    pieces = [whole[begin:end] for begin, end in zip(places, [*places[1:], len(whole)], strict=True)]
    seam = Seam(written(first), repeats=True)
    role = json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}).encode()
    found = told(seam, [role, *(event(each, identity="two") for each in pieces), event(end="stop", **usage(30, 5))])
    assert text_of(found) == "".join(rest)
    assert {each["id"] for each in found} == {"one"}
    assert found[-1]["usage"] == usage(10, len(first) + 5)["usage"]
    assert not seam.failed


@given(first=st.lists(TEXTS, min_size=1), other=st.lists(TEXTS, min_size=1))
def test_a_rest_that_repeats_another_text_is_refused(first: list[str], other: list[str]) -> None:
    if "".join(other).startswith("".join(first)):
        other = [f"x{other[0]}" if not first[0].startswith("x") else f"y{other[0]}"]
    seam = Seam(written(first), repeats=True)
    with pytest.raises(Differs):
        told(seam, [*(event(each) for each in other), event(end="stop")])
    assert seam.failed


def test_a_rest_that_ends_before_all_is_repeated_is_refused() -> None:
    for last in (event(end="stop"), b"[DONE]", event(tool_calls=None, error={"message": "no"})):
        seam = Seam(written(["one", "two"]), repeats=True)
        with pytest.raises(Differs):
            told(seam, [event("one"), last])


def test_one_that_is_written_anew_has_its_own_figures_and_the_first_id() -> None:
    seam = Seam(written(["one"]), repeats=True, anew=True)
    found = told(seam, [event("one"), event(" two"), event(end="stop", identity="two", **usage(10, 7))])
    assert text_of(found) == " two"
    assert (found[-1]["id"], found[-1]["usage"]) == ("one", usage(10, 7)["usage"])


def test_whole_answers_become_one() -> None:
    first = Written()
    first.take(json.dumps({"content": "ab", "tokens": [1, 2], "stop_type": "limit", **figures(5, 2)}).encode())
    assert (first.ended, first.total, first.tokens) == (True, 7, [1, 2])
    rest = {"content": "cd", "tokens": [3, 4], "stop_type": "eos", **figures(7, 2)}
    found = json.loads(Seam(first, repeats=False).whole(json.dumps(rest).encode()))
    assert found == {"content": "abcd", "tokens": [1, 2, 3, 4], "stop_type": "eos", **figures(5, 4)}


def figures(asked: int, said: int) -> dict[str, Any]:
    return {"tokens_evaluated": asked, "tokens_predicted": said}


def test_times_are_those_of_both() -> None:
    first = Written()
    times = {"cache_n": 3, "prompt_n": 5, "prompt_ms": 50.0, "predicted_n": 2, "predicted_ms": 20.0}
    first.take(event(end="length", timings=times))
    rest = {"cache_n": 9, "prompt_n": 1, "prompt_ms": 4.0, "predicted_n": 3, "predicted_ms": 80.0}
    (found,) = told(Seam(first, repeats=False), [event(end="stop", timings=rest)])
    both = {"predicted_n": 5, "predicted_ms": 100.0, "predicted_per_token_ms": 20.0, "predicted_per_second": 50.0}
    assert found["timings"] == times | both


@pytest.mark.parametrize(
    "more", [{"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}, {"content": [{"type": "text"}]}]
)
def test_an_answer_that_is_more_than_a_text_is_not_plain(more: dict[str, Any]) -> None:
    found = Written()
    found.take(json.dumps({"choices": [{"index": 0, "delta": more}]}).encode())
    assert not found.plain


def going_on(path: str, body: dict[str, Any], texts: list[str]) -> dict[str, Any] | None:
    made = continuation(UpstreamCall(path=path, body=json.dumps(body).encode()), written(texts))
    return None if made is None else dict(json.loads(made.body))


def test_a_chat_goes_on_with_what_was_said_and_what_is_left_of_its_limits() -> None:
    question = {"role": "user", "content": "?"}
    body = {"messages": [question], "max_tokens": 5, "n_predict": -1, "seed": 3}
    said = {"role": "assistant", "content": "abc"}
    assert going_on(CHAT, body, ["a", "bc"]) == body | {"messages": [question, said], "max_tokens": 3}
    assert going_on(CHAT, {"messages": [question, {"role": "assistant", "content": "ab"}]}, ["abc"]) == {
        "messages": [question, said]
    }
    assert going_on(CHAT, {"messages": [question, {"role": "assistant", "content": "z"}]}, ["abc"]) == {
        "messages": [question, {"role": "assistant", "content": "zabc"}]
    }


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"grammar": "root ::= x"},
        {"id_slot": 1},
        {"stop": ["end", "bcd"]},
        {"stop": 5},
        {"stop": [5]},
        {"messages": [{"role": "assistant", "content": "x", "reasoning_content": "y"}]},
        {"messages": 7},
    ],
)
def test_what_cannot_be_said_to_an_engine_is_not(body: dict[str, Any]) -> None:
    assert going_on(CHAT, {"messages": []} | body, ["a", "bc"]) is None


def test_a_stop_word_that_has_not_begun_does_no_harm() -> None:
    assert going_on("/completion", {"prompt": "p", "stop": ["abc", "x"]}, ["abcd"]) is not None


def test_a_prompt_in_tokens_whose_answer_has_no_tokens_cannot_go_on() -> None:
    assert going_on("/completion", {"prompt": [1, 2]}, ["a"]) is None
    assert going_on("/completion", {"prompt": ["one", "two"]}, ["a"]) is None


@pytest.mark.parametrize(
    ("body", "is_so"),
    [({"temperature": 0}, True), ({"top_k": 1}, True), ({"seed": 5}, True), ({"seed": -1}, False), ({}, False)],
)
def test_the_likeliest_tokens_or_a_seed_make_an_answer_repeatable(body: dict[str, Any], is_so: bool) -> None:
    assert is_repeatable(UpstreamCall(path=CHAT, body=json.dumps(body).encode())) is is_so
