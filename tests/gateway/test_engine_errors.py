"""Errors of engines: whose fault each is, and in the form of the API that was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.front import Front, opened
from gateway.test_bad_answers import says
from gateway.test_serving import house
from lmxd.gateway.answers.engine_errors import of_engine
from lmxd.gateway.http.chunks import chunk

TURN: Any = [{"role": "user", "content": "x"}]
ASKED = {
    "/v1/chat/completions": {"model": "a", "messages": TURN},
    "/v1/embeddings": {"model": "a", "input": "x"},
    "/v1/responses": {"model": "a", "input": "x"},
    "/v1/messages": {"model": "a", "messages": TURN, "max_tokens": 2},
    "/upstream/a/completion": {"prompt": "x"},
    "/api/chat": {"model": "a", "messages": TURN},
    "/api/embed": {"model": "a", "input": "x"},
}
UNREADABLE = "[json.exception.type_error.302] type must be string, but is array"


def by_llama_server(message: str, code: int = 500, kind: str = "server_error") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": kind}}


async def refuses(front: Front, status: int, said: object, *, chunked: bool = False) -> None:
    """Have the engine answer so from here on."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    sent = chunk(body) + b"0\r\n\r\n" if chunked else body
    await says(front, b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%b\r\n\r\n%b" % (status, framing, sent))


def message_in(path: str, text: str) -> str:
    """The message of an error, which has the form of its API."""
    said = json.loads(text)
    if path.startswith("/api/"):
        return str(said["error"])
    assert (said.get("type") == "error") is path.endswith("/messages")
    assert isinstance(said["error"]["type"], str)
    return str(said["error"]["message"])


@pytest.mark.parametrize("message", [UNREADABLE, "Failed to parse tools: Missing type", "vector::reserve"])
async def test_a_500_of_llama_servers_for_what_it_cannot_read_is_the_clients_fault(
    tmp_path: Path, message: str
) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, 500, by_llama_server(message))
        for path, body in ASKED.items():
            for more in ({}, {"stream": True}):
                answer = await front.ask(path, body | more)
                assert answer.status == 400, (path, answer.text)
                assert message in message_in(path, answer.text)


async def test_a_shared_cache_that_is_full_is_nobodys_fault_and_cured_by_asking_again(tmp_path: Path) -> None:
    """What build 11434 says to every request at hand, whichever of them was the last straw."""
    async with opened(house(tmp_path)) as front:
        await refuses(front, 500, by_llama_server("Context size has been exceeded."))
        for path, body in ASKED.items():
            for more in ({}, {"stream": True}):
                answer = await front.ask(path, body | more)
                assert answer.status == 503, (path, answer.text)
                assert int(answer.headers["Retry-After"]) > 0
                message = message_in(path, answer.text)
                assert "Context size has been exceeded. The cache that its slots share is full" in message
                assert "ask again" in message
                assert "kv_unified" in message


async def test_a_model_of_another_kind_is_the_clients_fault(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, 501, by_llama_server("This server does not support this", 501, "not_supported_error"))
        for path, body in ASKED.items():
            answer = await front.ask(path, body)
            assert answer.status == 400
            assert "name a model that can do that" in message_in(path, answer.text)


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (
            501,
            "This server does not support embeddings. Start it with `--embeddings`",
            "has one do it by the key embedding",
        ),
        (501, "This server does not support reranking. Start it with `--reranking`", "has one do it by the key rerank"),
        (400, "Pooling type 'none' is not OAI compatible. Please use a different pooling type", "sets the key pooling"),
    ],
)
async def test_a_server_that_was_not_started_for_it_is_by_a_key(
    tmp_path: Path, status: int, said: str, remedy: str
) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, status, by_llama_server(said, status, "not_supported_error"))
        for path, body in ASKED.items():
            answer = await front.ask(path, body)
            assert answer.status == 400
            assert f"an administrator {remedy}" in message_in(path, answer.text)


@pytest.mark.parametrize(
    "said",
    [
        by_llama_server("Compute error."),
        by_llama_server("got exception: Chunk not found"),
        by_llama_server("failed to process mtmd chunk"),
        by_llama_server("std::bad_alloc"),
        {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}},
        b"Internal Server Error",
        b"",
    ],
    ids=ascii,
)
async def test_a_fault_of_the_engine_is_its(tmp_path: Path, said: object) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, 500, said)
        for path, body in ASKED.items():
            answer = await front.ask(path, body)
            assert answer.status == 502, path
            assert "the instance says" in message_in(path, answer.text)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, by_llama_server("File Not Found", 404, "not_found_error")),
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
    ],
)
async def test_a_path_that_an_engine_has_not_is_said_to_be_so(tmp_path: Path, status: int, said: object) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, status, said)
        answer = await front.ask("/v1/audio/speech", {"model": "a", "input": "x"})
        assert answer.status == status
        assert "the engine of this model has no /v1/audio/speech" in message_in("/v1/audio/speech", answer.text)


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_error_in_the_clients_form_comes_as_it_is_and_its_connection_goes_on(
    tmp_path: Path, chunked: bool
) -> None:
    told = by_llama_server("the request exceeds the available context size", 400, "exceed_context_size_error")
    told["error"]["n_ctx"] = 512
    async with opened(house(tmp_path)) as front:
        await refuses(front, 400, told, chunked=chunked)
        for _ in range(3):
            answer = await front.ask("/v1/completions", {"model": "a"})
            assert (answer.status, json.loads(answer.text)) == (400, told)
        assert len(front.connections) == 1, "each answer ended where its client took it to end"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"object": "error", "message": "the model `x` does not exist", "code": 404}, "the model `x` does not exist"),
        ({"error": "too long", "error_type": "validation"}, "too long"),
        ({"detail": "no such thing"}, "no such thing"),
        ({"detail": [{"loc": ["body"], "msg": "Field required"}]}, "Field required"),
        (b"<html>nginx</html>", "<html>nginx</html>"),
        (b"[3]", "[3]"),
    ],
    ids=ascii,
)
async def test_an_error_in_another_form_is_put_into_the_clients(tmp_path: Path, said: object, text: str) -> None:
    async with opened(house(tmp_path)) as front:
        await refuses(front, 422, said)
        for path, body in ASKED.items():
            answer = await front.ask(path, body)
            assert answer.status == (400 if path.startswith("/api/") else 422)
            assert text in message_in(path, answer.text)


def test_a_message_that_quotes_the_whole_request_is_cut() -> None:
    error = of_engine(json.dumps(by_llama_server("tools = " + "x" * 100_000)).encode(), 500)
    assert error.code == "invalid_params"
    assert len(error.message) < 2100


async def test_a_wrong_body_is_not_sent_again_by_openais_client(tmp_path: Path) -> None:
    """It repeats what is answered by a 500, twice."""
    async with opened(house(tmp_path)) as front:
        await refuses(front, 500, by_llama_server(UNREADABLE))
        asked = front.house.state.counts["asked"]
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key) as client:
            with pytest.raises(openai.BadRequestError, match=r"type_error\.302"):
                await client.chat.completions.create(model="a", messages=TURN)
        assert front.house.state.counts["asked"] == asked + 1
