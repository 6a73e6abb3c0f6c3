"""Three agents on two models with room for one, over the real llama-server: all are served in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import anthropic
import ollama
import openai
import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd
from openai.types.chat import ChatCompletionUserMessageParam

TURNS = 3


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Gateway]:
    models = {name: {"path": str(few_layers), "context_length": 1024, "slots": 2} for name in ("planner", "coder")}
    config = {"gpu": {"device": "host", "max_memory_gb": 0.2}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("agents"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


def running(gateway: Gateway) -> list[str]:
    client = ollama.Client(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    return [x.model or "" for x in client.ps().models]


async def openai_agent(gateway: Gateway, models: list[str]) -> list[str]:
    """Each turn's answer, by OpenAI's client."""
    said = []
    turn: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say hello."}]
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        for model in models:
            stream = await client.chat.completions.create(
                model=model, messages=turn, max_tokens=8, temperature=0, stream=True
            )
            said.append("".join([x.choices[0].delta.content or "" async for x in stream if x.choices]))
            assert len(await asyncio.to_thread(running, gateway)) <= 1, "there is room for one"
    return said


async def anthropic_agent(gateway: Gateway, models: list[str]) -> list[str]:
    """The same by Anthropic's."""
    said = []
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        for model in models:
            turn: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Say hello."}]
            async with client.messages.stream(
                model=model, max_tokens=8, messages=turn, extra_body={"temperature": 0}
            ) as stream:
                said.append(await stream.get_final_text())
    return said


async def ollama_agent(gateway: Gateway, models: list[str]) -> list[str]:
    """The same by ollama's."""
    said = []
    client = ollama.AsyncClient(host=gateway.url, headers={"Authorization": f"Bearer {gateway.key}"})
    for model in models:
        stream = await client.generate(
            model=model, prompt="Say hello.", stream=True, options={"num_predict": 8, "temperature": 0}
        )
        said.append("".join([x.response or "" async for x in stream]))
    return said


@pytest.mark.timeout(300)
async def test_three_agents_on_two_models_with_room_for_one_are_served_in_turn(gateway: Gateway) -> None:
    there, back = ["planner", "coder"] * TURNS, ["coder", "planner"] * TURNS
    told = await asyncio.gather(*(openai_agent(gateway, turns) for turns in (there, back, there)))
    assert [len([x for x in said if x]) for said in told] == [2 * TURNS] * 3
    assert len(running(gateway)) == 1


@pytest.mark.timeout(300)
async def test_so_are_agents_of_three_apis(gateway: Gateway) -> None:
    told = await asyncio.gather(
        openai_agent(gateway, ["planner", "coder"] * 2),
        anthropic_agent(gateway, ["coder", "planner"] * 2),
        ollama_agent(gateway, ["planner", "coder"] * 2),
    )
    assert [len([x for x in said if x]) for said in told] == [4] * 3
    assert len(running(gateway)) == 1
