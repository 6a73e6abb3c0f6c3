"""A conversation that grows, through the gateway and the real llama-server: its answers are those of a static run."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

TURNS = 6
QUESTION = "Tell me more of the sea, its ships and the towns on its shores, and say what you think of number {n}. " * 3


@pytest.fixture(scope="module", params=[2, 0.2], ids=["beside", "in-place"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, few_layers: Path
) -> Iterator[Gateway]:
    """Two models of the same file: one that grows from 256 to 1,024 tokens, and one that has them from the start.

    A larger instance starts beside the one that its conversation has, or, where there is room for one alone, in its
    place.
    """
    static = {"path": str(few_layers), "context_length": 1024, "threads": 1}
    models = {"elastic": static | {"elastic": {"start": 256, "steps": [512]}}, "static": static}
    config = {"gpu": {"device": "host", "max_memory_gb": request.param}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("growing"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


def asked(gateway: Gateway, path: str, body: dict[str, Any]) -> bytes:
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {gateway.key}")
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: bytes = answer.read()
    return found


def chat(gateway: Gateway, model: str) -> list[tuple[str, str, int]]:
    """(text, reason of its end, tokens of the whole) of each answer of one conversation."""
    messages: list[dict[str, str]] = []
    found = []
    for n in range(TURNS):
        messages.append({"role": "user", "content": QUESTION.format(n=n)})
        body = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
        answer = json.loads(asked(gateway, "/v1/chat/completions", body))
        choice = answer["choices"][0]
        messages.append(choice["message"])
        found.append((choice["message"]["content"], choice["finish_reason"], answer["usage"]["total_tokens"]))
    return found


def tokens(gateway: Gateway, model: str) -> list[list[int]]:
    """The tokens of each answer of one conversation in tokens."""
    prompt: list[int] = []
    found = []
    for n in range(TURNS):
        prompt += [100 + (n * 37 + each * 11) % 4000 for each in range(90)]
        body = {"model": model, "prompt": prompt, "n_predict": 16, "temperature": 0, "return_tokens": True}
        answer = json.loads(asked(gateway, "/completion", body | {"ignore_eos": True}))
        prompt = prompt + answer["tokens"]
        found.append(answer["tokens"])
    return found


def moves(gateway: Gateway) -> list[str]:
    """The lines in which the daemon says that a lease has moved."""
    log = gateway.lmxd.log.read_text()
    return [line for line in log.splitlines() if " move l-" in line]


def test_a_conversation_crosses_two_steps_and_every_answer_is_that_of_a_static_run(gateway: Gateway) -> None:
    static, before = chat(gateway, "static"), len(moves(gateway))
    assert static[-1][2] > 512
    assert chat(gateway, "elastic") == static
    assert len(moves(gateway)) - before == 2


def test_tokens_are_those_of_a_static_run_to_the_last(gateway: Gateway) -> None:
    with gateway.lmxd.client() as client:
        for instance in client.instances().instances:
            client.stop(instance.instance)
    static, before = tokens(gateway, "static"), len(moves(gateway))
    assert tokens(gateway, "elastic") == static
    assert len(moves(gateway)) - before == 2
