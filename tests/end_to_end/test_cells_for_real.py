"""Agents whose conversations share the cells of one real llama-server: none takes those of another's lease.

There are eight shares of 256 tokens for eight conversations of three each. What an idle one has, others may take. The
same tokens are rounded otherwise where they lie elsewhere in the cache: only those at its beginning are compared token
by token.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

AGENTS, TURNS = 8, 4
START, TOP, SHARES = 256, 1024, 8
ADDED, ANSWER = 120, 14
"""Tokens of a turn: four of them are 536, beyond two growths."""
ROUNDED = 0.8
"""Of the logarithm of a probability, more than rounding makes of it here (0.3 was seen), and less than another context
does.
"""
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "return_tokens": True, "n_probs": 3}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    """Models of the same file: two whose slots share a cache, and one with a slot of the whole context.

    There is room for one instance of each of two. ``larger`` begins with two shares, and may have four.
    """
    static = {"path": str(few_layers), "context_length": TOP, "threads": 1}
    shared = static | {"kv_unified": True, "slots": SHARES, "elastic": {"start": START, "steps": [START * SHARES]}}
    larger = shared | {"slots": 2, "elastic": {"start": START, "steps": [TOP]}}
    models = {"static": static, "shared": shared, "larger": larger}
    config = {"gpu": {"device": "host", "max_memory_gb": 0.3}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("cells"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.fixture
def empty(gateway: Gateway) -> Gateway:
    """The same, of which no cache has anything."""
    with gateway.lmxd.client() as client:
        for instance in client.instances().instances:
            if instance.model == "shared":
                client.stop(instance.instance)
    return gateway


def raw(gateway: Gateway, body: dict[str, Any] | None, path: str = "/completion") -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(gateway.url + path, data)
    request.add_header("Authorization", f"Bearer {gateway.key}")
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: bytes = answer.read()
    return found


def asked(gateway: Gateway, body: dict[str, Any]) -> Any:
    return json.loads(raw(gateway, body))


def question(agent: int, turn: int) -> list[int]:
    return [300 + (agent * 97 + turn * 37 + each * 11) % 3000 for each in range(ADDED)]


def conversation(
    gateway: Gateway, model: str, agent: int, said: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The answers to an agent's turns. ``said``: it goes on as if those had been the answers."""
    prompt: list[int] = []
    found = []
    for turn in range(TURNS):
        prompt += question(agent, turn)
        found.append(asked(gateway, GREEDY | {"model": model, "prompt": prompt, "n_predict": ANSWER}))
        prompt += (said or found)[turn]["tokens"]
    return found


def likeliest(answer: dict[str, Any]) -> dict[int, float]:
    """The tokens that an answer was likeliest to begin with, and how likely."""
    return {each["id"]: each["logprob"] for each in answer["completion_probabilities"][0]["top_logprobs"]}


def of_engines(gateway: Gateway) -> str:
    """All that the instances of ``shared`` have logged."""
    return "".join(log.read_text(errors="replace") for log in gateway.lmxd.directory.rglob("shared#*.log"))


def test_a_conversation_crosses_two_growths_and_is_that_of_a_static_run(empty: Gateway) -> None:
    static, found = (conversation(empty, model, 0) for model in ("static", "shared"))
    assert [each["tokens"] for each in found] == [each["tokens"] for each in static]
    assert found[-1]["tokens_evaluated"] + ANSWER > 2 * START
    assert all(each["timings"]["prompt_n"] <= ADDED + 1 for each in found), "only what is new is processed"
    with empty.lmxd.client() as client:
        assert [i.ctx for i in client.instances().instances if i.model == "shared"] == [SHARES * START]


def test_a_conversation_is_carried_to_a_cache_of_more_slots_as_in_a_static_run(gateway: Gateway) -> None:
    static, found = (conversation(gateway, model, AGENTS) for model in ("static", "larger"))
    assert [each["tokens"] for each in found] == [each["tokens"] for each in static]
    assert [each["timings"]["prompt_n"] for each in found] == [each["timings"]["prompt_n"] for each in static]
    with gateway.lmxd.client() as client:
        assert TOP in [i.ctx for i in client.instances().instances if i.model == "larger"]


def test_eight_at_once_are_answered_from_their_own_contexts(empty: Gateway) -> None:
    static = [conversation(empty, "static", agent) for agent in range(AGENTS)]
    with ThreadPoolExecutor(AGENTS) as pool:
        found = list(pool.map(lambda agent: conversation(empty, "shared", agent, static[agent]), range(AGENTS)))
    for alone, beside in zip(chain(*static), chain(*found), strict=True):
        assert len(beside["tokens"]) == ANSWER
        assert beside["tokens_evaluated"] == alone["tokens_evaluated"]
        there = likeliest(beside)
        for token, likely in likeliest(alone).items():
            assert abs(there.get(token, likely) - likely) < ROUNDED
        assert max(likeliest(alone), key=likeliest(alone).__getitem__) in there
    processed = sum(each["timings"]["prompt_n"] for each in chain(*found))
    assert processed > AGENTS * TURNS * (ADDED + ANSWER), "there are fewer cells than tokens"
    log = of_engines(empty)
    assert "failed to find free space" not in log, "the gateway makes room before"
    assert "size has been exceeded" not in log


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_goes_on_behind_its_bound_as_in_a_static_run(empty: Gateway, *, streams: bool) -> None:
    """Others have all but one share when it begins. Its prompt has more tokens than its bytes make one expect."""
    body = {
        "prompt": (" 1" if streams else " 2") + " one two 3 4 5 6 7 8 9" * 10,
        "n_predict": 180,
        "temperature": 0,
        "ignore_eos": True,
    }
    static = asked(empty, body | {"model": "static"})
    with empty.lmxd.client() as client, ThreadPoolExecutor(1) as pool:
        others = [client.request("shared", ctx=ctx, bounded=True).lease for ctx in (TOP, TOP - START)]
        asking = pool.submit(raw, empty, body | {"model": "shared", "stream": streams})
        empty.lmxd.until(lambda: client.queue().tickets)
        for other in others:
            client.release(other)
        text = asking.result().decode()
    if streams:
        events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
        assert "".join(event["content"] for event in events) == static["content"]
    else:
        events = [json.loads(text)]
        assert events[-1]["content"] == static["content"]
    assert (events[-1]["tokens_evaluated"], events[-1]["tokens_predicted"]) == (static["tokens_evaluated"], 180)
    assert 'lmxd_gateway_walls_total{how="continued",model="shared"}' in raw(empty, None, "/metrics").decode()
