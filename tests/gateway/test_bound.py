"""The bound of an answer: whatever a request says, its engine is told no more than there is room for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.requests.bound import bound, bound_beside
from lmxd.gateway.requests.need import LIMITS, need_of

HEEDED = {
    "/v1/chat/completions": ("n_predict", "max_completion_tokens", "max_tokens"),
    "/v1/completions": ("n_predict", "max_completion_tokens", "max_tokens"),
    "/completion": ("n_predict", "max_completion_tokens", "max_tokens"),
    "/v1/responses": ("n_predict", "max_output_tokens"),
    "/v1/messages": ("max_tokens",),
}
"""Names that llama-server heeds by its paths, in its order: null and -1 are no limit."""
SAID = st.one_of(st.none(), st.integers(-3, 9000), st.floats(0, 1e12), st.just(2**40))


def heeded(call: UpstreamCall, path: str) -> float:
    """Tokens that an engine takes for the most."""
    body = json.loads(call.body)
    said = next((body[name] for name in HEEDED[path] if name in body), None)
    return float("inf") if said is None or said < 0 else said


@settings(max_examples=examples(200))
@given(
    path=st.sampled_from(sorted(HEEDED)), said=st.dictionaries(st.sampled_from(LIMITS), SAID), most=st.integers(1, 8192)
)
def test_no_answer_is_longer_than_its_bound_nor_shorter_than_its_limit(
    path: str, said: dict[str, Any], most: int
) -> None:
    call = UpstreamCall(path=path, body=json.dumps({"prompt": "x", "keep": [1.5, None]} | said).encode())
    need = need_of(call)
    assert need is not None
    found = bound(call, most)
    told = heeded(found.call, path)
    assert 0 <= told <= most
    assert found.limit == need.limit
    if found.cuts:
        assert told in (most, need.limit, *said.values()), (
            "a name that is heeded before others may say less than the largest"
        )
    if len(said) <= 1:
        assert int(told) == (most if need.limit is None else min(need.limit, most))
    kept = json.loads(found.call.body)
    assert {name: value for name, value in kept.items() if name not in LIMITS} == {"prompt": "x", "keep": [1.5, None]}


def test_a_request_that_says_less_is_sent_as_it_is() -> None:
    call = UpstreamCall(path="/completion", body=b'{"prompt": "x",  "n_predict": 7}')
    found = bound(call, 8)
    assert found.call is call
    assert not found.cuts


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({"prompt": "x"}, 1),
        ({"prompt": "x", "n": 3}, 3),
        ({"prompt": [1, 2], "n": 2.0, "n_cmpl": 4}, 4),
        ({"prompt": "x", "n": None}, 1),
        ({"prompt": ["x", "y"]}, None),
        ({"prompt": [[1], [2]]}, None),
        ({"prompt": "x", "n": "two"}, None),
        ({"prompt": "x", "n": 0}, None),
    ],
)
def test_answers_are_counted_where_there_is_one_prompt(body: dict[str, Any], answers: int | None) -> None:
    need = need_of(UpstreamCall(path="/v1/completions", body=json.dumps(body).encode()))
    assert need is not None
    assert need.answers == answers


def told(**body: Any) -> int | None:
    """Tokens that a request of 4,096 cells and eight slots tells its engine to say at most."""
    call = UpstreamCall(path="/v1/completions", body=json.dumps(body).encode())
    found: int | None = json.loads(bound_beside(call, 4096, 8).body).get("max_tokens")
    return found


def test_answers_to_several_prompts_have_room_beside_each_other() -> None:
    assert told(prompt=["x" * 100, "y"]) == 4096 // 2 - 102
    assert told(prompt=["x", "y"], n=2) == 4096 // 8 - 3
    assert told(prompt=[[1, 2]] * 20, max_tokens=9000) == 4096 // 8 - len("[1, 2]")
    assert told(prompt=["x", "y"], max_tokens=7) == 7
    assert told(prompt=["x" * 5000, "y"]) is None
    assert told(prompt="x") is None
    assert told(prompt=[1, 2]) is None
    assert told(prompt=7) is None
