"""The gateway as users have it: a process of its own, a real model, and the clients that they use."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ollama
import openai
import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
from openai.types.shared_params import ResponseFormatJSONSchema

TOOLS: list[ChatCompletionFunctionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Gateway]:
    models = {
        "smollm2": {"path": str(smollm2), "context_length": 2048, "slots": 2},
        "embed": {"path": str(smollm2), "context_length": 512, "engine_flags": ["--embeddings", "--pooling", "mean"]},
    }
    config = {"gpu": {"device": "host", "max_memory_gb": 1.5}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("gateway"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key)


def test_openai_lists_and_chats(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["embed", "smollm2"]
    answer = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=8)
    assert answer.choices[0].message.content
    assert client.completions.create(model="smollm2", prompt="One, two,", max_tokens=4).choices[0].text


def test_openai_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=8, stream=True)
    pieces = [x.choices[0].delta.content for x in stream if not isinstance(x, tuple) and x.choices]
    assert len([x for x in pieces if x]) > 1


def test_openai_hands_tools_over(client: openai.OpenAI) -> None:
    """SmolLM2's template knows no tools, so that what comes back is text; tests/gateway has calls, of the fake."""
    answer = client.chat.completions.create(model="smollm2", messages=HELLO, tools=TOOLS, max_tokens=8)
    assert answer.choices[0].message.content


def test_openai_gets_json_of_a_schema(client: openai.OpenAI) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
    }
    form: ResponseFormatJSONSchema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Name a city."}],
        response_format=form,
        max_tokens=40,
    )
    assert json.loads(answer.choices[0].message.content or "")["city"] in ("Paris", "Rome")


def test_openai_embeds(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="embed", input=["a dog", "a cat"])
    assert [len(x.embedding) for x in found.data] == [576, 576]


def test_openai_knows_the_errors(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="none", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "word " * 5000}], max_tokens=8
        )


def test_openai_for_asyncio(gateway: Gateway) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key) as client:
            asked = (
                client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=4, stream=number % 2 == 0)
                for number in range(6)
            )
            answers = await asyncio.gather(*asked)
            assert len(answers) == 6
            for answer in answers:
                if isinstance(answer, openai.AsyncStream):
                    assert [x async for x in answer]

    asyncio.run(main())


def test_ollama_finds_what_it_knows(gateway: Gateway) -> None:
    client = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    assert [m.model for m in client.list().models] == ["embed", "smollm2"]
    options = {"num_predict": 6}
    assert client.chat(model="smollm2", messages=HELLO, options=options).message.content
    assert "".join(
        x.response or "" for x in client.generate(model="smollm2", prompt="One, two,", stream=True, options=options)
    )
    assert "smollm2" in [m.model for m in client.ps().models]
    assert len(client.embed(model="embed", input="a dog").embeddings[0]) == 576
    with pytest.raises(ollama.ResponseError, match="no model"):
        client.chat(model="none", messages=HELLO)


def test_curl_streams_and_reaches_what_is_llama_servers_own(gateway: Gateway) -> None:
    def curl(*words: str) -> str:
        command = ["curl", "-sS", "-N", "-H", f"Authorization: Bearer {gateway.key}", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    body = json.dumps({"model": "smollm2", "messages": HELLO, "max_tokens": 4, "stream": True, "temperature": 0})
    text = curl(f"{gateway.url}/v1/chat/completions", "-d", body)
    assert text.count("data: ") > 3
    assert text.endswith("data: [DONE]\n\n")
    assert json.loads(curl(f"{gateway.url}/upstream/smollm2/props"))["total_slots"] == 2
    tokens = curl(f"{gateway.url}/upstream/smollm2/tokenize", "-d", '{"content": "hello"}')
    assert json.loads(tokens)["tokens"]
    assert 'lmxd_gateway_requests_total{code="200",model="smollm2"}' in curl(f"{gateway.url}/metrics")
