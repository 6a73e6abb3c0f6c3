"""What a model sets and strips, by the real llama-server: a variant is one process with its model."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

HELLO: Any = [{"role": "user", "content": "Count from one to a hundred."}]
TEMPLATE = (
    "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking %}" + "Think first. " * 9 + "{% endif %}"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Gateway]:
    model = {
        "path": str(smollm2),
        "context_length": 2048,
        "aliases": ["gpt-4o"],
        "engine_flags": ["--jinja", "--chat-template", TEMPLATE],
        "set": {"temperature": 0, "max_tokens": 8},
        "strip": "stop",
        "variants": {
            "short": {"set": {"max_tokens": 3}},
            "thinking": {"set": {"chat_template_kwargs": {"enable_thinking": True}}},
        },
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 1}, "models": {"m": model}}
    with Lmxd(tmp_path_factory.mktemp("filters"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


def posted(gateway: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.parametrize(("name", "most"), [("m", 8), ("gpt-4o", 8), ("m:short", 3), ("gpt-4o:short", 3)])
def test_every_api_says_as_much_as_the_name_that_was_asked_for(gateway: Gateway, name: str, most: int) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key)
    said = client.chat.completions.create(model=name, messages=HELLO, max_tokens=50, stop=[" ", "1", "o", "e"])
    assert said.usage is not None
    assert (said.usage.completion_tokens, said.model) == (most, "m"), "as with an alias: the engine knows one name"
    raw = client.completions.create(model=name, prompt="One, two,", max_tokens=50)
    assert raw.usage is not None
    assert raw.usage.completion_tokens == most
    told = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    answer = told.chat(model=name, messages=HELLO, options={"num_predict": 50, "temperature": 2})
    assert (answer.eval_count, answer.model) == (most, name)
    message = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key).messages.create(
        model=name, messages=HELLO, max_tokens=50
    )
    assert message.usage.output_tokens == most


@pytest.mark.parametrize("other", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_no_other_name_of_what_is_set_gets_by_it(gateway: Gateway, other: str) -> None:
    said = posted(gateway, "/v1/chat/completions", {"model": "m", "messages": HELLO, other: 30})
    assert said["usage"]["completion_tokens"] == 8
    said = posted(gateway, "/completion", {"model": "m", "prompt": "One, two,", other: 30})
    assert said["tokens_predicted"] == 8


def test_the_responses_api_says_no_more_than_is_set(gateway: Gateway) -> None:
    said = posted(gateway, "/v1/responses", {"model": "m", "input": "Count to a hundred.", "max_output_tokens": 30})
    assert said["usage"]["output_tokens"] == 8


@pytest.mark.parametrize("frame", [b"\xef\xbb\xbf%b", b"%b\0"])
def test_a_body_that_llama_server_reads_and_the_gateway_does_not_is_refused(gateway: Gateway, frame: bytes) -> None:
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    body = frame % b'{"prompt": "One, two,", "n_predict": 30}'
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{gateway.url}/upstream/m/completion", body, headers))
    assert refused.value.code == 400


def test_a_variant_thinks_in_the_process_of_its_model(gateway: Gateway) -> None:
    prompts = {}
    for name in ("m", "m:thinking"):
        body = {"model": name, "messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}
        prompts[name] = posted(gateway, "/apply-template", body)["prompt"]
    assert prompts["m:thinking"] == prompts["m"] + "Think first. " * 9
    for path in ("/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/chat/completions/input_tokens"):
        plain, thinking = (
            posted(gateway, path, {"model": name, "messages": HELLO, "input": "Hello"})["input_tokens"]
            for name in ("m", "m:thinking")
        )
        assert thinking > plain + 9, path
    told = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    assert [x.model for x in told.ps().models] == ["m"]
