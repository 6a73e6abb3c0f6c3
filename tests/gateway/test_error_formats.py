"""An error reaches each API's own client as an error, whenever it happens."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import ollama
import openai
import pytest
from house import model

from gateway.front import Front, opened, read_until
from gateway.test_bad_answers import OK, says
from gateway.test_recent import recent
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.requests.authentication import key_of
from lmxd.gateway.requests.failures import ErrorFormat, body_of

PROBLEM = (
    b'HTTP/1.1 400 Bad Request\r\nContent-Length: 54\r\n\r\n{"error":{"message":"too long","code":400,"type":"x"}}'
)
TURN: Any = [{"role": "user", "content": "x"}]


def of_anthropic(front: Front, key: str | None = None) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=front.url, api_key=key or front.key, max_retries=0)


def of_openai(front: Front) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0)


async def test_anthropics_client_has_errors_of_its_own_kind(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front, of_anthropic(front) as client:
        with pytest.raises(anthropic.NotFoundError, match="there is no model 'none'") as missing:
            await client.messages.create(model="none", max_tokens=5, messages=TURN)
        assert missing.value.body["type"] == "error"  # type: ignore[index]
        assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
        await says(front, PROBLEM)
        with pytest.raises(anthropic.BadRequestError, match="too long") as bad:
            await client.messages.create(model="a", max_tokens=5, messages=TURN)
        assert bad.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
        async with of_anthropic(front, "none") as stranger:
            with pytest.raises(anthropic.AuthenticationError, match="the key is not known"):
                await stranger.messages.create(model="a", max_tokens=5, messages=TURN)


async def test_a_stream_of_each_api_that_fails_as_it_waits_is_no_empty_success(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.05)
    late = {"Prefer": "wait=2"}
    async with opened(house(tmp_path)) as front, front.stream("a", 200) as first:
        await read_until(first, "data:")
        async with of_anthropic(front) as claude, of_openai(front) as gpt:

            async def messages() -> None:
                with pytest.raises(anthropic.APIStatusError, match="waited"):
                    async with claude.messages.stream(
                        model="b", max_tokens=5, messages=TURN, extra_headers=late
                    ) as stream:
                        await stream.get_final_message()

            async def chat() -> None:
                stream = await gpt.chat.completions.create(model="b", messages=TURN, stream=True, extra_headers=late)
                with pytest.raises(openai.APIError, match="waited"):
                    [_ async for _ in stream]

            async def responses() -> None:
                stream = await gpt.responses.create(model="b", input="x", stream=True, extra_headers=late)
                (event,) = [event async for event in stream]
                assert event.type == "error"
                assert event.code == "wait_expired"
                assert "waited" in event.message

            await asyncio.gather(messages(), chat(), responses())


async def test_an_engines_refusal_of_a_stream_that_was_begun_is_an_error_too(tmp_path: Path) -> None:
    """The head of the stream went out while the model was loaded; then the instance says no."""
    model(tmp_path, "a", load_seconds=2.0, answer=PROBLEM.decode())
    async with opened(house(tmp_path)) as front, of_anthropic(front) as client:
        with pytest.raises(anthropic.APIStatusError, match="too long"):
            async with client.messages.stream(model="a", max_tokens=5, messages=TURN) as stream:
                await stream.get_final_message()


@pytest.mark.parametrize("load_seconds", [0.0, 2.0], ids=["at once", "after comments"])
async def test_a_stream_of_each_api_whose_engine_dies_ends_with_an_error(tmp_path: Path, load_seconds: float) -> None:
    """Not with a reset connection, which says nothing, and which Anthropic's client has no error of its own for."""
    for name in ("a", "b"):
        model(tmp_path, name, load_seconds=load_seconds, die_after=3)
    texts = []

    async def chat(gpt: openai.AsyncOpenAI) -> None:
        async for event in await gpt.chat.completions.create(model="a", messages=TURN, stream=True):
            texts.append(event.choices[0].delta.content)  # noqa: PERF401 -- to have those before the error

    async def messages(claude: anthropic.AsyncAnthropic) -> None:
        async with claude.messages.stream(model="b", max_tokens=9, messages=TURN) as stream:
            await stream.get_final_message()

    async with opened(house(tmp_path)) as front, of_anthropic(front) as claude, of_openai(front) as gpt:
        with pytest.raises(openai.APIError, match="the instance broke off"):
            await chat(gpt)
        assert texts == ["x"] * 3
        with pytest.raises(anthropic.APIStatusError, match="the instance broke off"):
            await messages(claude)
        await front.until(lambda: not front.house.state.instances)
        *_, last = [x async for x in await gpt.responses.create(model="b", input="x", stream=True)]
        assert last.type == "error"
        assert last.code == "stopped"
        assert [each["status"] for each in await recent(front, front.admin)] == [502] * 3


@pytest.mark.parametrize("said", [b"2\r\nda", b"6\r\ndata: \r", b"7\r\ndata: \n\r\n3"])
async def test_one_that_breaks_off_within_a_chunk_is_cut_off(tmp_path: Path, said: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        await says(front, OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + said)
        with pytest.raises(aiohttp.ClientPayloadError):
            await front.ask("/v1/completions", {"model": "a"})


async def test_ollamas_client_has_an_error_whatever_breaks_off_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    async with opened(house(tmp_path)) as front:
        client = ollama.AsyncClient(host=front.url, headers=front.headers())
        for body, why in ((events + b"data: {nonsense\n\n", "the instance says"), (events, "broke off")):
            await says(front, OK + b"Content-Length: 5000\r\n\r\n" + body)
            with pytest.raises(ollama.ResponseError, match=why):
                [_ async for _ in await client.chat("a", TURN, stream=True)]
        await says(front, OK + b"\r\n" + events)

        def broken(*_: object) -> Any:
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr("lmxd.gateway.ollama.translation.Answer.take", broken)
        with pytest.raises(ollama.ResponseError, match="a mistake of ours"):
            [_ async for _ in await client.chat("a", TURN, stream=True)]
        lost = await front.ask("/api/none", {})
        assert isinstance(json.loads(lost.text)["error"], str)


def basic(words: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"Authorization": "Bearer k"}, "k"),
        ({"Authorization": "bearer  k "}, "k"),
        ({"Authorization": "BEARER k"}, "k"),
        (basic("me:k"), "k"),
        (basic("k"), "k"),
        (basic("me:k:l"), "k:l"),
        ({"X-Api-Key": "k"}, "k"),
        ({"Api-Key": "k"}, "k"),
        ({"Authorization": "Bearer", "X-Api-Key": "k"}, "k"),
        ({"Authorization": "Basic %%%", "Api-Key": "k"}, "k"),
        ({"Authorization": "k"}, ""),
        ({}, ""),
    ],
)
def test_a_key_is_found_however_its_client_sends_it(headers: dict[str, str], key: str) -> None:
    assert key_of(headers) == key


async def test_a_missing_key_is_told_from_an_unknown_one(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for sent, said in (
            ({}, "a key is needed"),
            ({"Api-Key": "x"}, "the key is not known"),
            (basic("a:b"), "not known"),
        ):
            async with front.session.get("/v1/models", headers=sent) as answer:
                assert answer.status == 401
                assert said in await answer.text()
        for sent in (basic(f"me:{front.key}"), {"Api-Key": front.key}, {"Authorization": f"bearer {front.key}"}):
            async with front.session.get("/v1/models", headers=sent) as answer:
                assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/messages", ErrorFormat.ANTHROPIC),
        ("/v1/messages/count_tokens", ErrorFormat.ANTHROPIC),
        ("/upstream/a/v1/messages", ErrorFormat.ANTHROPIC),
        ("/v1/responses", ErrorFormat.RESPONSES),
        ("/v1/chat/completions", ErrorFormat.OPENAI),
        ("/api/chat", ErrorFormat.OLLAMA),
        ("/none", ErrorFormat.OPENAI),
        ("/v1/messages/", ErrorFormat.ANTHROPIC),
        ("//v1//messages//count_tokens//", ErrorFormat.ANTHROPIC),
        ("/v1/v1/responses/", ErrorFormat.RESPONSES),
        ("//api//chat/", ErrorFormat.OLLAMA),
        ("/v1/messages/batches", ErrorFormat.ANTHROPIC),
        ("/v1/messages/batches/msgbatch_1/results", ErrorFormat.ANTHROPIC),
        ("/v1/files", ErrorFormat.OPENAI),
    ],
)
def test_the_format_is_that_of_the_path(path: str, kind: ErrorFormat) -> None:
    assert ErrorFormat.of(path) is kind


async def test_anthropics_client_has_its_own_form_on_every_path(tmp_path: Path) -> None:
    """It names the version of its API; OpenAI has some of the same paths."""
    async with opened(house(tmp_path)) as front, of_anthropic(front) as client:
        listed = await client.models.list()
        assert [(x.id, x.type, x.display_name) for x in listed.data] == [("a", "model", "a"), ("b", "model", "b")]
        assert (listed.first_id, listed.last_id, listed.has_more) == ("a", "b", False)
        assert (await client.models.retrieve("a")).created_at.year >= 2025
        for call in (client.models.retrieve("none"), client.beta.files.list(), client.messages.batches.list()):
            with pytest.raises(anthropic.NotFoundError) as missing:
                await call
            assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
            assert missing.value.body["type"] == "error"  # type: ignore[index]


@pytest.mark.parametrize("status", [400, 405, 413, 415, 422])
@pytest.mark.parametrize("kind", [ErrorFormat.OPENAI, ErrorFormat.RESPONSES, ErrorFormat.ANTHROPIC])
def test_a_fault_of_a_client_is_never_said_to_be_the_servers(kind: ErrorFormat, status: int) -> None:
    said = body_of(LmxdError("invalid_request", "x", ""), status, kind)["error"]["type"]
    assert said in ("invalid_request_error", "request_too_large")


async def test_a_method_that_a_path_has_not_is_a_fault_of_the_client(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/v1/chat/completions", method="PUT")
        assert (answer.status, json.loads(answer.text)["error"]["type"]) == (405, "invalid_request_error")
