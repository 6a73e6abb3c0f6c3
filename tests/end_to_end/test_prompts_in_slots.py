"""Prompts in the slots of the real llama-server: each finds its own again, and a shared cache says when it is full."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

SYSTEM = "You are one of several agents, who all begin with these same words. " * 5


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    model = {"path": str(few_layers), "slots": 3}
    models = {"m": model | {"context_length": 1024}, "shared": model | {"context_length": 256, "kv_unified": True}}
    config = {"gpu": {"device": "host", "max_memory_gb": 1}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("slots"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


def posted(gateway: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    request.add_header("Authorization", f"Bearer {gateway.key}")
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_agents_that_begin_alike_find_their_own_prompts_again(gateway: Gateway) -> None:
    """llama-server alone gives them all the first slot, for the words that they have in common."""
    agents = [SYSTEM + f" {name}." * 150 for name in ("Ada", "Bob")]
    slots = []
    for turn in range(2):
        for n, prompt in enumerate(agents):
            answer = posted(gateway, "/completion", {"model": "m", "prompt": prompt, "n_predict": 2})
            slots.append(answer["id_slot"])
            if turn:
                assert answer["timings"]["prompt_n"] < 20, "all but its end is there"
            agents[n] = prompt + answer["content"] + " And then?"
    assert slots == [slots[0], slots[1]] * 2
    assert slots[0] != slots[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": SYSTEM}]}),
        ("/v1/completions", {"prompt": SYSTEM}),
        ("/v1/responses", {"input": SYSTEM}),
        ("/infill", {"input_prefix": SYSTEM, "input_suffix": "", "prompt": ""}),
        ("/v1/messages", {"messages": [{"role": "user", "content": SYSTEM}]}),
    ],
)
def test_the_engine_takes_requests_of_every_api(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    limit = {"max_output_tokens" if path.endswith("responses") else "max_tokens": 2, "n_predict": 2}
    try:
        assert posted(gateway, path, {"model": "m", **body, **limit})
    except urllib.error.HTTPError as error:
        assert path == "/infill", error.read()
        assert b"Infill is not supported" in error.read()


def test_who_meets_a_full_cache_is_told_to_ask_again(gateway: Gateway) -> None:
    def ask(word: str) -> tuple[int, str]:
        body = {"model": "shared", "prompt": word * 70, "max_tokens": 150, "ignore_eos": True}
        try:
            return 200, str(posted(gateway, "/v1/completions", body))
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, (" one", " two", " three")))
    full = [text for status, text in answers if status == 503]
    assert full, answers
    assert all("The cache that its slots share is full" in text for text in full)
    assert ask(" one")[0] == 200, "one alone has all of it"
