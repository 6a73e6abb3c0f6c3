"""infinity-emb itself: vectors and ranks, by OpenAI's client and Cohere's path."""

from __future__ import annotations

import math

import httpx
import openai
import pytest
from programs.conftest import Opened

TEXTS = ["the capital of france is paris", "a red cat"]


@pytest.mark.timeout(400)
def test_vectors_and_ranks_come_through_the_gateway(opened: Opened) -> None:
    with opened({"bge-small": "embedding", "bge-reranker": "reranker"}) as gateway:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, timeout=300) as client:
            found = client.embeddings.create(model="bge-small", input=TEXTS)
            again = client.embeddings.create(model="bge-small", input=TEXTS[0], encoding_format="float")
        first, second = (each.embedding for each in found.data)
        assert len(first) == 32
        assert math.hypot(*first) == pytest.approx(1, abs=1e-3)
        assert first == pytest.approx(again.data[0].embedding, abs=1e-5)
        assert first != pytest.approx(second, abs=0.1)
        assert found.model == "bge-small"
        asked = {"model": "bge-reranker", "query": "what is the capital", "documents": [*TEXTS, TEXTS[0]]}
        key = {"Authorization": f"Bearer {gateway.key}"}
        for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
            answer = httpx.post(f"{gateway.url}{path}", json=asked, headers=key, timeout=300)
            assert answer.status_code == 200, answer.text
            scores = {each["index"]: each["relevance_score"] for each in answer.json()["results"]}
            assert scores[0] == pytest.approx(scores[2], abs=1e-4)
            assert scores[0] != pytest.approx(scores[1], abs=1e-4)
        shown = gateway.lmxd.instances()
        assert {each.model for each in shown.values()} == {"bge-small", "bge-reranker"}
        for each in shown.values():  # their ports have the key that lmxd made, and nobody else's
            refused = httpx.post(f"{each.endpoint}/v1/embeddings", json={"model": each.model, "input": "a"})
            assert refused.status_code == 401
