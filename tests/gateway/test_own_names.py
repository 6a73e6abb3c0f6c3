"""A model asked for by another name: its engine, which knows but its own, is asked by that."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from gateway.front import opened
from gateway.test_serving import house
from lmxd.gateway.leasing.models import Meaning
from lmxd.gateway.requests.engine_body import engine_body
from lmxd.rpc.books import ModelInfo

OTHERS = ("a:latest", "gpt-4o", "team/llama:latest", "team/llama")


def models(directory: Path) -> Any:
    return house(directory, a={"aliases": ["gpt-4o", "team/llama:latest"]}, b={})


def renamed(body: bytes, content_type: str, alias: str, name: str) -> bytes:
    """What the engine of a model called ``name`` is sent for a body, to a path of that alias."""
    model = ModelInfo(model=name, aliases=[alias], ctx=1, slots=1, bytes={}, running=0)
    names = {called: Meaning(called, model) for called in model.names}
    return engine_body(body, content_type, names[alias], names)


async def test_an_engine_is_asked_by_the_name_that_it_knows(tmp_path: Path) -> None:
    paths = ("/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/infill", "/upstream/{}/v1/rerank")
    async with opened(models(tmp_path)) as front:
        for name, path in itertools.product(OTHERS, paths):
            answer = await front.ask(path.format(name), {"model": name, "input": "é", "of_mine": {"x": [1, 2.50]}})
            said = json.loads(answer.text)["asked"]
            assert said == {"model": "a", "input": "é", "of_mine": {"x": [1, 2.50]}}, (name, path)


async def test_a_path_by_the_own_name_and_a_body_by_another(tmp_path: Path) -> None:
    async with opened(models(tmp_path)) as front:
        answer = await front.ask("/upstream/a/v1/rerank", {"model": "gpt-4o"})
        assert json.loads(answer.text)["asked"] == {"model": "a"}
        answer = await front.ask("/upstream/gpt-4o/v1/rerank", {"model": "what it says"})
        assert json.loads(answer.text)["asked"] == {"model": "what it says"}


async def test_clients_ask_by_any_name(tmp_path: Path) -> None:
    async with opened(models(tmp_path)) as front:
        told = ollama.AsyncClient(host=front.url, headers=front.headers())
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key) as client:
            for name in OTHERS:
                assert (await client.models.retrieve(name)).id == name
                await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
                asked = [{"role": "user", "content": "hi"}]
                said = await told.chat(model=name, messages=asked, options={"num_predict": 1})
                assert (said.model, said.message.content) == (name, "x")
                assert (await told.show(name)).capabilities


def test_a_form_names_its_model_anew_and_keeps_its_file() -> None:
    file = bytes(range(256)) * 50 + b"\r\n--b\r\n--boun"
    head = b'--bound\r\nContent-Disposition: form-data; name="'
    form = b'%bfile"; filename="x"\r\n\r\n%b\r\n%bmodel"\r\n\r\n%b\r\n%blanguage"\r\n\r\nen\r\n--bound--\r\n'
    kind = "multipart/form-data; boundary=bound"
    said, wanted = (form % (head, file, head, name, head) for name in (b"gpt-4o", b"whisper"))
    assert renamed(said, kind, "gpt-4o", "whisper") == wanted
    assert renamed(said, kind, "another", "whisper") == said


def test_a_form_that_names_its_model_twice_keeps_what_is_between() -> None:
    named = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    form = b"%b--b\r\nContent-Disposition: form-data; name=x\r\n\r\nkept\r\n%b--b--\r\n"
    said, wanted = (form % (named % name, named % name) for name in (b"gpt-4o", b"a"))
    assert renamed(said, "multipart/form-data; boundary=b", "gpt-4o", "a") == wanted


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"model": 3}', b'{"prompt": "gpt-4o"}', b"\xff"])
def test_what_names_no_model_stays_as_it_is(body: bytes) -> None:
    assert renamed(body, "application/json", "gpt-4o", "a") == body
