"""Pictures and adapters through every API of the gateway, to a real llama-server that sees them."""

from __future__ import annotations

import base64
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
import vision
from adapters import adapter
from gateway_process import Gateway
from lmxd_process import Lmxd

EMBEDDING = 576
"""Of SmolLM2-135M."""
SEEN = 16
"""Tokens of a picture, as the projector has patches."""
QUESTION = "What is it?"
RED, BLUE = (base64.b64encode(vision.picture(colour)).decode() for colour in ((255, 0, 0), (0, 0, 255)))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("pictures")
    usual = {"path": str(smollm2), "context_length": 2048, "set": {"temperature": 0, "seed": 1}}
    one, two = (adapter(directory / f"{name}.gguf", EMBEDDING, 0.6) for name in ("one", "two"))
    off, on = ({"lora": [{"id": 0, "scale": scale}, {"id": 1, "scale": 0}]} for scale in (0, 1))
    models = {
        "seeing": usual | {"mmproj": str(vision.projector(directory / "mmproj.gguf", EMBEDDING))},
        "adapted": usual
        | {"lora": [{"path": str(one), "scale": 0}, {"path": str(two), "scale": 0}]}
        | {"variants": {"plain": {"set": off}, "one": {"set": on}}},
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "models": models}
    with Lmxd(directory, config) as lmxd, Gateway(lmxd) as made:
        yield made


def post(gateway: Gateway, path: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(gateway.url + path, data, headers), timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def refused(gateway: Gateway, path: str, body: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(gateway, path, body)
    return caught.value.code, caught.value.read().decode()


def by_chat(gateway: Gateway, pictures: list[str], *, stream: bool) -> tuple[int, str]:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key)
    urls = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}} for data in pictures]
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, *urls]}]
    asked: Any = {"model": "seeing", "messages": messages, "max_tokens": 8}
    if not stream:
        whole = client.chat.completions.create(**asked)
        return whole.usage.prompt_tokens, str(whole.choices[0].message.content)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(x.choices[0].delta.content or "" for x in chunks if x.choices)
    return chunks[-1].usage.prompt_tokens, text


def by_messages(gateway: Gateway, pictures: list[str], *, stream: bool) -> tuple[int, str]:
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key)
    sources = [{"type": "base64", "media_type": "image/png", "data": data} for data in pictures]
    content = [{"type": "text", "text": QUESTION}, *({"type": "image", "source": source} for source in sources)]
    asked: Any = {"model": "seeing", "max_tokens": 8, "messages": [{"role": "user", "content": content}]}
    if stream:
        with client.messages.stream(**asked) as events:
            found = events.get_final_message()
    else:
        found = client.messages.create(**asked)
    [block] = found.content
    assert block.type == "text"
    return found.usage.input_tokens + (found.usage.cache_read_input_tokens or 0), block.text


def by_responses(gateway: Gateway, pictures: list[str], *, stream: bool) -> tuple[int, str]:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key)
    urls = [{"type": "input_image", "image_url": f"data:image/png;base64,{data}"} for data in pictures]
    content = [{"type": "input_text", "text": QUESTION}, *urls]
    asked: Any = {"model": "seeing", "max_output_tokens": 8, "input": [{"role": "user", "content": content}]}
    if stream:
        with client.responses.stream(**asked) as events:
            found = events.get_final_response()
    else:
        found = client.responses.create(**asked)
    assert found.usage is not None
    return found.usage.input_tokens, found.output_text


def by_ollama_chat(gateway: Gateway, pictures: list[str], *, stream: bool) -> tuple[int, str]:
    client = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    asked: Any = {
        "model": "seeing",
        "messages": [{"role": "user", "content": QUESTION, "images": pictures}],
        "options": {"num_predict": 8},
    }
    if stream:
        lines = list(client.chat(**asked, stream=True))
        return lines[-1].prompt_eval_count or 0, "".join(x.message.content or "" for x in lines)
    whole = client.chat(**asked)
    return whole.prompt_eval_count or 0, str(whole.message.content)


def by_ollama_generate(gateway: Gateway, pictures: list[str], *, stream: bool) -> tuple[int, str]:
    client = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    asked: Any = {"model": "seeing", "prompt": QUESTION, "images": pictures, "options": {"num_predict": 8}}
    if stream:
        lines = list(client.generate(**asked, stream=True))
        return lines[-1].prompt_eval_count or 0, "".join(x.response or "" for x in lines)
    whole = client.generate(**asked)
    return whole.prompt_eval_count or 0, str(whole.response)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [by_chat, by_messages, by_responses, by_ollama_chat, by_ollama_generate])
def test_every_api_has_the_model_see(gateway: Gateway, ask: Any, stream: bool) -> None:
    blind, red, blue, both = (ask(gateway, seen, stream=stream) for seen in ([], [RED], [BLUE], [RED, BLUE]))
    assert red[0] == blue[0] > blind[0] + SEEN - 2, "the tokens of a picture are in the prompt"
    assert both[0] == red[0] + (red[0] - blind[0]), "and those of the second"
    assert len({blind[1], red[1], blue[1], both[1]}) == 4, "each is seen as it is"


def test_a_picture_that_is_none_is_the_clients_fault(gateway: Gateway) -> None:
    for url in ("data:image/png;base64,@@@", f"data:image/png;base64,{RED[:40]}", f"data:text/plain;base64,{RED}"):
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
        body = {"model": "seeing", "messages": [{"role": "user", "content": parts}]}
        assert refused(gateway, "/v1/chat/completions", body)[0] == 400


def test_a_large_picture_is_seen_and_one_that_is_too_large_is_a_413(gateway: Gateway) -> None:
    noise = vision.noise(1900)
    assert len(noise) > 10 * 2**20
    tokens, _ = by_chat(gateway, [base64.b64encode(noise).decode()], stream=False)
    assert tokens > SEEN
    body = {"model": "seeing", "messages": [{"role": "user", "content": "x" * 65 * 2**20}]}
    status, told = refused(gateway, "/v1/chat/completions", body)
    assert (status, "64 MiB is the most" in told) == (413, True)


def test_a_request_says_how_much_of_which_adapter(gateway: Gateway) -> None:
    def said(model: str, **more: Any) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, **more}
        return str(post(gateway, "/v1/chat/completions", body)["choices"][0]["message"]["content"])

    def scaled(one: float, two: float) -> dict[str, Any]:
        return {"lora": [{"id": 0, "scale": one}, {"id": 1, "scale": two}]}

    plain, one = said("adapted"), said("adapted", **scaled(1, 0))
    assert plain != one
    assert said("adapted", **scaled(0, 0)) == said("adapted:plain") == plain
    assert said("adapted:one") == said("adapted:one", **scaled(0, 0)) == one, "a variant is an adapter by name"
    told = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    chat = told.chat(model="adapted:one", messages=[{"role": "user", "content": "Hello"}], options={"num_predict": 8})
    assert chat.message.content == one
    answers = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key).responses
    assert answers.create(model="adapted:one", input="Hello", max_output_tokens=8).output_text != plain
    hello: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    status, why = refused(gateway, "/v1/messages", {"model": "adapted:one", **hello})
    assert (status, "Anthropic" in why) == (400, True), "llama-server would leave it out"
    unknown = {"model": "adapted", "lora": [{"id": 2, "scale": 1}], **hello}
    status, why = refused(gateway, "/v1/chat/completions", unknown)
    assert (status, "0: one.gguf, 1: two.gguf" in why) == (400, True)
    assert [x.model for x in told.ps().models].count("adapted") == 1, "all in one instance"
