"""One endpoint for four boxes: two with the real llama-server and a real model, two with the fake, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fleet_boxes import Boxes, boxes

NODES = {"n1": "real-1", "n2": "real-2", "n3": "fake-3", "n4": "fake-4"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Boxes]:
    """Each model is at one node alone."""
    real = {"path": str(smollm2), "context_length": 512, "slots": 1}
    models = {node: {name: real if name.startswith("real") else {}} for node, name in NODES.items()}
    with boxes(tmp_path_factory.mktemp("fleet"), models) as found:
        yield found


async def test_all_models_answer_at_one_endpoint(fleet: Boxes) -> None:
    client = openai.AsyncOpenAI(base_url=f"{fleet.gateway.url}/v1", api_key=fleet.gateway.key, max_retries=0)

    async def said(name: str) -> tuple[str, str]:
        answer = await client.chat.completions.with_raw_response.create(
            model=name,
            messages=[{"role": "user", "content": "What is the capital of France? Answer in one sentence."}],
            max_tokens=24,
            temperature=0,
        )
        return answer.headers["X-Lmxd-Node"], answer.parse().choices[0].message.content or ""

    async with client:
        assert [model.id async for model in client.models.list()] == sorted(NODES.values())
        answers = await asyncio.gather(*(said(name) for name in NODES.values()))
    assert [node for node, _ in answers] == list(NODES)
    assert ["Paris" in text for _, text in answers] == [True, True, False, False]
