"""The context that a request needs, by its bytes alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.requests.need import Need, need_of

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def need(path: str = CHAT, **body: Any) -> Need | None:
    return need_of(UpstreamCall(path=path, body=json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (CHAT, {"max_tokens": 7}, 7),
        (CHAT, {"max_completion_tokens": 8.0, "max_tokens": 5}, 8),
        ("/v1/responses", {"max_output_tokens": 9}, 9),
        ("/completion", {"n_predict": 10}, 10),
        ("/completion", {"n_predict": -1}, 1024),
        ("/v1/messages", {}, 1024),
    ],
)
def test_an_answer_has_what_is_said_or_what_is_usual(path: str, body: dict[str, Any], answer: int) -> None:
    found = need(path, **body)
    assert found is not None
    assert found.answer == answer


def test_no_prompt_has_more_tokens_than_bytes() -> None:
    text = "häßlich \u2028 \\ " * 50
    found = need(messages=[{"role": "user", "content": text}] * 3)
    assert found is not None
    assert found.most is not None
    assert found.most >= 3 * (len(text.encode()) + 64)
    assert 0 < found.guess < found.most


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    ],
)
def test_bytes_do_not_tell_of_what_a_template_describes(more: dict[str, Any]) -> None:
    found = need(**({"messages": HELLO} | more))
    assert found is not None
    assert found.most is None


def test_a_chat_is_no_shorter_for_a_prompt_that_it_says_besides() -> None:
    """Engines pass over it there."""
    found = need(messages=[{"role": "user", "content": "x" * 500}], prompt=[1])
    assert found is not None
    assert found.most is not None
    assert found.most > 500


def test_a_prompt_that_is_counted_is_known_to_the_token() -> None:
    found = need("/completion", prompt=[5, 60000, 7], n_predict=2)
    assert found is not None
    assert (found.most, found.guess, found.answer) == (3, 3, 2)


@pytest.mark.parametrize(
    "call",
    [
        UpstreamCall(path="/v1/embeddings", body=b'{"input": "x"}'),
        UpstreamCall(path="/tokenize", body=b'{"content": "x"}'),
        UpstreamCall(path=CHAT, body=b"no JSON"),
        UpstreamCall(path=CHAT, body=b'{"max_tokens": "many"}'),
        UpstreamCall(path=CHAT, method="GET"),
    ],
)
def test_others_are_for_the_engine_to_judge(call: UpstreamCall) -> None:
    assert need_of(call) is None
