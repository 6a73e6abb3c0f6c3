"""Models as ollama lists and describes them, and the changes to them that it would make."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import ollama
import pytest
import synthetic
from house import model

from gateway.front import Front, opened
from gateway.test_serving import house

TEMPLATE = "{% if tools %}{{ tools }}{% endif %}{% if enable_thinking %}<think>{% endif %}"


def gguf(directory: Path, name: str, architecture: str = "llama", **metadata: Any) -> Path:
    """A small model with more in its header."""
    path = model(directory, name)
    found, tensors = synthetic.decoder(
        "llama", layers=2, embedding=64, heads=4, kv_heads=2, feed_forward=128, vocabulary=100, head=32, context=32768
    )
    renamed = {key.replace("llama.", f"{architecture}."): value for key, value in found.items()}
    said = renamed | {"general.architecture": architecture, "general.file_type": 15} | metadata
    synthetic.write(path, said, tensors)
    return path


def told(front: Front) -> ollama.AsyncClient:
    return ollama.AsyncClient(host=front.url, headers=front.headers())


async def test_a_model_is_described_by_its_file(tmp_path: Path) -> None:
    gguf(tmp_path, "a", "qwen3", **{"tokenizer.chat_template": TEMPLATE, "general.license": "mit"})
    async with opened(house(tmp_path, a={"context_length": 2048, "aliases": ["other"]})) as front:
        for name in ("a", "a:latest", "other"):
            shown = await told(front).show(name)
            assert shown.capabilities == ["completion", "tools", "thinking"]
            assert shown.modelinfo is not None
            assert shown.modelinfo["general.architecture"] == "qwen3"
            assert shown.modelinfo["qwen3.context_length"] == 32768
            assert shown.modelinfo["general.parameter_count"] > 0
            assert (shown.template, shown.license, shown.parameters) == (TEMPLATE, "mit", "num_ctx 2048")
            assert shown.details is not None
            assert (shown.details.family, shown.details.quantization_level) == ("qwen3", "Q4_K_M")
        with pytest.raises(ollama.ResponseError) as caught:
            await told(front).show("none")
        assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("architecture", "metadata", "profile", "abilities"),
    [
        ("llama", {}, {}, ["completion"]),
        ("llama", {"tokenizer.chat_template": "{{ tools }}"}, {}, ["completion", "tools"]),
        ("bert", {"bert.attention.causal": False}, {}, ["embedding"]),
        ("qwen3", {"qwen3.pooling_type": 3}, {}, ["embedding"]),
        ("llama", {}, {"engine_flags": ["--embeddings"]}, ["embedding"]),
        ("llama", {}, {"engine_flags": ["--reranking"]}, ["rerank"]),
        ("llama", {}, {"rerank": True}, ["rerank"]),
        ("llama", {}, {"embedding": True}, ["embedding"]),
        ("bert", {"bert.pooling_type": 4}, {}, ["rerank"]),
    ],
)
async def test_abilities_are_those_that_it_has(
    tmp_path: Path, architecture: str, metadata: dict[str, Any], profile: dict[str, Any], abilities: list[str]
) -> None:
    gguf(tmp_path, "a", architecture, **metadata)
    async with opened(house(tmp_path, a={"estimated_memory_gb": 1, **profile})) as front:
        assert (await told(front).show("a")).capabilities == abilities
        [tag] = json.loads((await front.ask("/api/tags", method="GET")).text)["models"]
        assert tag["capabilities"] == abilities


async def test_the_list_has_every_name_with_a_digest_and_a_time(tmp_path: Path) -> None:
    path = gguf(tmp_path, "a")
    os.utime(path, (1.7e9, 1.7e9))
    broken = tmp_path / "b.gguf"
    broken.write_bytes(b"no model")
    models = {"a": {"aliases": ["gpt-4o"]}, "b": {"estimated_memory_gb": 1}}
    lists = []
    for _ in range(2):
        async with opened(house(tmp_path, **models)) as front:
            found = (await told(front).list()).models
            lists.append({x.model: x.digest for x in found})
            assert [x.model for x in found] == ["a", "gpt-4o", "b"]
            assert found[0].modified_at is not None
            assert found[0].modified_at.timestamp() == 1.7e9
    assert lists[0] == lists[1], "a digest stays as it is"
    assert lists[0]["a"] == lists[0]["gpt-4o"] != lists[0]["b"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest or "") for digest in lists[0].values())


async def test_what_is_here_is_pulled_and_nothing_is_changed(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        client = told(front)
        assert (await client.pull("a:latest")).status == "success"
        assert [x.status async for x in await client.pull("a", stream=True)] == ["pulling manifest", "success"]
        for call, status in (
            (client.pull("none"), 404),
            (client.copy("none", "c"), 404),
            (client.delete("none"), 404),
            (client.copy("a", "c"), 403),
            (client.delete("a"), 403),
            (client.push("a"), 403),
            (client.create("c", from_="a"), 403),
        ):
            with pytest.raises(ollama.ResponseError) as caught:
                await call
            assert caught.value.status_code == status, caught.value.error
            assert caught.value.error
        assert "lmxd pull hf:ORG/REPO:QUANT" in (await front.ask("/api/pull", {"model": "none"})).text


ROUTES = (
    *(("POST", f"/api/{name}") for name in "chat generate embed embeddings show pull push copy create".split()),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:0"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("GET", "/api/version"),
    ("POST", "/api/unload/none"),
    ("GET", "/running"),
    ("GET", "/api//tags/"),
    ("HEAD", "/api/tags"),
    ("HEAD", "/running"),
)


LOOKS = [(method, path) for method, path in ROUTES if method == "GET" or path in ("/api/tags", "/running")]
"""What is asked without a body."""


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 3}', b'{"model": ""}', b'{"model": "none"}', b"\xff"])
async def test_no_route_breaks_on_a_wrong_body_and_errors_are_texts(tmp_path: Path, body: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        for method, path in ROUTES:
            answer = await front.ask(path, body, method=method)
            wanted = {200} if (method, path) in LOOKS else {400, 403, 404}
            assert answer.status in wanted, (method, path, answer.text)
            if method != "HEAD" and answer.status != 200:
                assert isinstance(json.loads(answer.text)["error"], str)
