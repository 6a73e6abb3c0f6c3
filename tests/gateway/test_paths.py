"""Paths, bodies and routes as clients write and send them."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import brotli
import openai
import pytest
from house import model
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import opened
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.http.forms import short_fields
from lmxd.gateway.http.packing import Unpacking

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHAT = {"model": "a", "messages": [{"role": "user", "content": "x" * 500}]}


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat//completions//", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/messages", "/v1/messages"),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/responses/input_tokens", "/v1/responses/input_tokens"),
        ("/v1/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
        ("/rerank", "/v1/rerank"),
        ("/infill/", "/infill"),
        ("/completion", "/completion"),
        ("/tokenize", "/tokenize"),
        ("/v1/audio/speech", "/v1/audio/speech"),
        ("/v1/images/generations", "/v1/images/generations"),
        ("/completions?x=1&y=2", "/v1/completions?x=1&y=2"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/a/embeddings?api-version=1", "/v1/embeddings?api-version=1"),
        ("/v2/rerank", "/v1/rerank"),
    ],
)
async def test_a_path_is_understood_however_it_is_written(tmp_path: Path, written: str, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask(written, CHAT)
        assert (answer.status, json.loads(answer.text)["path"]) == (200, path)


async def test_azures_client_is_served(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        client = openai.AsyncAzureOpenAI(azure_endpoint=front.url, api_key=front.key, api_version="2025-01-01")
        async with client:
            said = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "x"}])
            assert (said.choices[0].message.content or "").startswith("fake ")
            assert [x.id async for x in client.models.list()] == ["a", "b"]


@pytest.mark.parametrize("path", ["/models", "/models/", "/v1//models", "/v1/models/"])
async def test_so_is_the_list(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        listed = json.loads((await front.ask(path, method="GET")).text)
        assert [x["id"] for x in listed["data"]] == ["a", "b"]
        assert json.loads((await front.ask("/models/a", method="GET")).text)["id"] == "a"


@pytest.mark.parametrize("written", ["//api/{}", "/api/{}/", "/api//{}", "///api/{}//"])
async def test_so_are_the_paths_of_ollama(tmp_path: Path, written: str) -> None:
    """A base URL that ends with a slash is common."""
    async with opened(house(tmp_path)) as front:
        for path in ("version", "tags", "ps"):
            assert (await front.ask(front.url + written.format(path), method="GET")).status == 200
        for path in ("show", "chat", "generate"):
            asked = {"model": "a", "messages": [{"content": "x"}], "prompt": "x", "stream": False}
            assert (await front.ask(front.url + written.format(path), asked)).status == 200
        assert (await front.ask(f"{front.url}//props/?model=a", method="GET")).status == 200


@pytest.mark.parametrize("path", ["/v2/chat/completions", "/v1/chat", "/x/v1/models", "/v1/chatcompletions", "/v1"])
async def test_a_path_that_there_is_not_is_a_404(tmp_path: Path, path: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask(path, CHAT)
        assert (answer.status, json.loads(answer.text)["error"]["code"]) == (404, "unknown_method")


async def test_a_whole_url_is_the_target_of_a_proxys_client(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for path, status in (("/v1/models", b"200"), ("/upstream/a/v1/x", b"200"), ("/", b"200"), ("/none", b"404")):
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            head = f"GET http://localhost:{front.port}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            writer.write(f"{head}Authorization: Bearer {front.key}\r\n\r\n".encode())
            assert (await reader.read()).split()[1] == status, path
            writer.close()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress),
        ("X-Gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("ZSTD", zstd.compress),
    ],
)
async def test_a_body_may_be_packed(tmp_path: Path, encoding: str, packed: Any) -> None:
    data = packed(json.dumps(CHAT).encode())
    async with opened(house(tmp_path), max_body_mb=1) as front:
        for path in ("/v1/chat/completions", "/api/chat", "/upstream/a/v1/chat/completions"):
            answer = await front.ask(path, data, **{"Content-Encoding": encoding})
            assert answer.status == 200, answer.text
        bomb = packed(b" " * 3 * 2**20)
        assert len(bomb) < 2**16
        assert (await front.ask("/v1/chat/completions", bomb, **{"Content-Encoding": encoding})).status == 413
        torn = await front.ask("/v1/chat/completions", data[: len(data) // 2], **{"Content-Encoding": encoding})
        assert torn.status == 400


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "x-secret"])
async def test_a_packing_that_nobody_knows_is_a_415(tmp_path: Path, encoding: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/v1/chat/completions", CHAT, **{"Content-Encoding": encoding})
        assert answer.status == 415
        assert "gzip, deflate, br, zstd" in answer.text


HEARD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"text":"hello"}'


async def test_files_are_sent_as_forms_that_name_their_model(tmp_path: Path) -> None:
    model(tmp_path, "a", answer=HEARD)
    async with opened(house(tmp_path)) as front:
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key, max_retries=0)
        with pytest.raises(openai.NotFoundError, match="there is no model 'none'"):
            await client.audio.transcriptions.create(model="none", file=("x.wav", b"RIFF" * 1000))
        heard = await client.audio.transcriptions.create(model="a", file=("x.wav", b"RIFF" * 100_000))
        assert heard.text == "hello"
        for body, kind in ((b"--x\r\n", "multipart/form-data; boundary=x"), (b"x", "multipart/form-data")):
            answer = await front.ask("/v1/audio/transcriptions", body, **{"Content-Type": kind})
            assert (answer.status, json.loads(answer.text)["error"]["type"]) == (400, "invalid_request_error")


async def test_the_properties_of_a_model_are_asked_for_by_its_name(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        assert (await front.ask("/props?model=a", method="GET")).status == 200
        assert list(front.house.phases()) == ["a#1"]
        assert (await front.ask("/props", method="GET")).status == 400
        assert (await front.ask("/props?model=none", method="GET")).status == 404


@given(st.binary(max_size=300), st.text(max_size=20))
def test_what_is_no_form_is_said(body: bytes, boundary: str) -> None:
    try:
        fields = short_fields(body, f'multipart/form-data; boundary="{boundary}"', ("model",))
        assert set(fields) <= {"model"}
    except LmxdError as error:
        assert error.code == "invalid_request"


@pytest.mark.parametrize("head", ["", "Content-Disposition: form-data; name=model\r\n"])
async def test_a_form_of_many_parts_keeps_nobody_waiting(tmp_path: Path, head: str) -> None:
    body = f"--b\r\n{head}\r\na\r\n".encode() * 2000 + b"--b--\r\n"
    async with opened(house(tmp_path)) as front:
        sent = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await front.ask("/v1/audio/transcriptions", body, **sent)
        assert answer.status == 400
        assert "more than 1000 parts" in answer.text


async def test_malformed_forms_are_no_lines_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(house(tmp_path)) as front:
        sent = {"Content-Type": "multipart/form-data; boundary=b"}
        for body in (b"--c", b"--b\r\n\xff: x\r\n\r\n", b"--b\r\n" + b"a" * 20_000):
            assert (await front.ask("/v1/audio/transcriptions", body, **sent)).status == 400
        assert "oundary" not in caplog.text
        assert "multipart" not in caplog.text


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("br", lambda data: brotli.compress(data, quality=4)), ("zstd", zstd.compress)],
)
def test_a_packed_body_is_unpacked_a_little_at_a_time_and_no_further_than_is_read(encoding: str, pack: Any) -> None:
    """One of a megabyte may be a gigabyte, and others have their turn after each piece."""
    unpacking = Unpacking(encoding)
    pieces = unpacking.pieces(pack(b" " * 2**24))
    first = [next(pieces) for _ in range(5)]
    assert max(map(len, first)) <= 2**17, "a library may give somewhat more than it is asked for"
    assert sum(map(len, first)) + sum(map(len, pieces)) == 2**24
    assert unpacking.whole


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
async def test_a_packed_body_without_a_key_is_not_looked_into(tmp_path: Path, encoding: str) -> None:
    """Nothing is unpacked, before or after the answer: to unpack keeps all others waiting."""
    async with opened(house(tmp_path)) as front:
        asked = {"Content-Encoding": encoding}
        async with front.session.post("/v1/chat/completions", data=b"not so packed" * 1000, headers=asked) as answer:
            assert answer.status == 401
        with_key = await front.ask("/v1/chat/completions", b"not so packed" * 1000, **asked)
        assert (with_key.status, "malformed" in with_key.text) == (400, True)


async def test_a_packed_body_may_be_of_several_streams_and_of_no_more_than_many(tmp_path: Path) -> None:
    whole = json.dumps(CHAT).encode()
    async with opened(house(tmp_path)) as front:
        for pack, encoding in ((gzip.compress, "gzip"), (zstd.compress, "zstd")):
            for parts, status in (([whole[:9], whole[9:]], 200), ([b"", whole], 200), ([*[b""] * 2000, whole], 400)):
                body = b"".join(map(pack, parts))
                answer = await front.ask("/v1/chat/completions", body, **{"Content-Encoding": encoding})
                assert answer.status == status, (encoding, answer.text)
        raw = zlib.compress(whole)[2:-4]
        assert (await front.ask("/v1/chat/completions", raw, **{"Content-Encoding": "deflate"})).status == 200
        torn = gzip.compress(whole) + b"more"
        assert (await front.ask("/v1/chat/completions", torn, **{"Content-Encoding": "gzip"})).status == 400
