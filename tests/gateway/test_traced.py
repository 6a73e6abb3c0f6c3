"""The prompt of a request is read once, however often it is asked for, and not at all where nobody asks."""

from __future__ import annotations

import json

from lmxd.gateway.http.upstream_call import UpstreamCall
from lmxd.gateway.leasing.traces import trace
from lmxd.gateway.traced import TracedPrompt

BODY = json.dumps({"prompt": "x" * 1000, "n_predict": 1}).encode()


def test_it_is_read_and_traced_once() -> None:
    sent = TracedPrompt(UpstreamCall(path="/completion", body=BODY))
    assert sent.prompt is not None
    assert sent.prompt is sent.prompt
    assert sent.trace is sent.trace
    assert sent.trace == trace(sent.prompt.text)


def test_a_trace_that_is_known_is_not_made_again() -> None:
    seen = trace(b"x" * 1000)
    assert TracedPrompt(UpstreamCall(path="/v1/messages", body=b"no JSON"), seen).trace is seen


def test_one_whose_slot_is_not_to_be_chosen_has_none() -> None:
    sent = TracedPrompt(UpstreamCall(path="/v1/messages", body=BODY))
    assert (sent.prompt, sent.trace) == (None, None)
