"""Bodies of requests: read as they need, bounded in all, and never a fault of ours whatever they hold."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.front import Front, opened
from gateway.test_connections import connected, ended
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.requests.wanted import Chat, Embed, Generate, NamedRequest, Question, decode, decode_all

POSTS = ["/v1/chat/completions", "/v1/embeddings", "/api/chat", "/api/generate", "/api/embed", "/api/show"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {"model": ["a"]}, "model"),
        ("/v1/chat/completions", {"model": "a", "stream": "yes"}, "stream"),
        ("/v1/chat/completions", {"model": ""}, "model"),
        ("/v1/chat/completions", {"model": "x" * 257}, "model"),
        ("/api/chat", {"model": 3}, "model"),
        ("/api/chat", {}, "model"),
        ("/api/chat", {"model": "a", "messages": "hi"}, "messages"),
        ("/api/chat", {"model": "a", "messages": [3]}, "messages[0]"),
        ("/api/chat", {"model": "a", "messages": [{"role": 3}]}, "messages[0].role"),
        ("/api/chat", {"model": "a", "messages": [{"content": {}}]}, "messages[0].content"),
        ("/api/chat", {"model": "a", "messages": [{"images": "x"}]}, "messages[0].images"),
        ("/api/chat", {"model": "a", "messages": [{"images": [3]}]}, "messages[0].images[0]"),
        ("/api/chat", {"model": "a", "messages": [{"tool_calls": {}}]}, "messages[0].tool_calls"),
        ("/api/chat", {"model": "a", "messages": [{"tool_calls": [3]}]}, "messages[0].tool_calls[0]"),
        ("/api/chat", {"model": "a", "messages": [{"tool_calls": [{"function": 3}]}]}, "tool_calls[0].function"),
        ("/api/chat", {"model": "a", "messages": [{}], "tools": 3}, "tools"),
        ("/api/chat", {"model": "a", "messages": [{}], "format": 3}, "format"),
        ("/api/chat", {"model": "a", "options": []}, "options"),
        ("/api/chat", {"model": "a", "options": {"num_ctx": "many"}}, "options.num_ctx"),
        ("/api/chat", {"model": "a", "options": {"num_ctx": [4096]}}, "options.num_ctx"),
        ("/api/chat", {"model": "a", "options": {"num_predict": "7"}}, "options.num_predict"),
        ("/api/chat", {"model": "a", "options": {"stop": {}}}, "options.stop"),
        ("/api/chat", {"model": "a", "think": []}, "think"),
        ("/api/chat", {"model": "a", "keep_alive": []}, "keep_alive"),
        ("/api/chat", {"model": "a", "stream": 3}, "stream"),
        ("/api/generate", {"model": "a", "prompt": ["x"]}, "prompt"),
        ("/api/generate", {"model": "a", "prompt": "x", "system": 3}, "system"),
        ("/api/generate", {"model": "a", "prompt": "x", "images": 3}, "images"),
        ("/api/generate", {"model": "a", "prompt": "x", "raw": "x"}, "raw"),
        ("/api/embed", {"model": "a", "input": {}}, "input"),
        ("/api/embed", {"model": "a", "input": 3}, "input"),
        ("/api/show", {"model": {}}, "model"),
        ("/api/show", {"name": 3}, "name"),
    ],
    ids=lambda x: str(x)[:60],
)
async def test_a_field_of_the_wrong_type_is_named(tmp_path: Path, path: str, body: dict[str, Any], field: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask(path, body)
        assert answer.status == 400, answer.text
        assert field in answer.text
        assert not front.house.state.instances


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body", [b'{"model": "\\ud800"}', b'{"model": "\xff"}', b"\xff", b"", b"null", b'{"model": "a"} {}', b"[" * 10**6]
)
async def test_what_is_no_json_is_said_to_be_none(tmp_path: Path, path: str, body: bytes) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask(path, body)
        assert answer.status == 400, answer.text
        assert json.loads(answer.text)["error"]


async def test_metrics_name_models_that_are_configured_and_no_other(tmp_path: Path) -> None:
    """A lone surrogate broke them until a restart, and clients that left early put any name there."""
    async with opened(house(tmp_path, a={"estimated_memory_gb": 2, "aliases": ["x"]})) as front:
        for name in ("a", "x", "nobody", '"} 1\n', "é" * 200, "\ud800", "a" * 256, "\x00"):
            await front.ask("/v1/chat/completions", {"model": name})
            await front.ask("/api/chat", {"model": name, "messages": [{}]})
            left = asyncio.create_task(front.ask("/v1/completions", {"model": name + "y"}))
            await asyncio.sleep(0)
            left.cancel()
        for path in ("%ff", "%ed%a0%80", "%22%7d", "nobody", "a" * 300):
            await front.ask(f"/upstream/{path}/health", method="GET")
        answer = await front.ask("/metrics", method="GET")
        assert answer.status == 200
        labels = {
            sample.labels["model"]
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if "model" in sample.labels
        }
        assert labels == {"", "a"}


def test_a_body_of_any_size_is_no_objects() -> None:
    """Two of them made others wait for nine seconds, at 3.2 GB."""
    body = b'{"model": "a", "x": [' + b"[]," * 5_000_000 + b'[]], "stream": true}'
    tracemalloc.start()
    said = decode(body, NamedRequest)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (said.model, said.stream) == ("a", True)
    assert most < 2**20


@pytest.mark.parametrize(
    "part", [b"{},", b'"a",', b'{"role": "user"},', b"[],", b"0,"], ids=["objects", "strings", "messages", "lists", "0"]
)
@pytest.mark.parametrize("field", [b"messages", b"tools", b"options", b"input", b"images"])
@pytest.mark.parametrize("kind", [Chat, Generate, Embed, Question])
def test_a_body_that_is_translated_is_some_objects_at_most(part: bytes, field: bytes, kind: type[Question]) -> None:
    body = b'{"model": "a", "%b": [' % field + part * (8_000_000 // len(part)) + part[:-1] + b"]}"
    tracemalloc.start()
    try:
        decode_all(body, kind)
    except LmxdError as error:
        assert error.code in ("invalid_request", "invalid_params")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 * len(body)


async def test_the_bodies_at_hand_are_bounded_by_key_and_together(tmp_path: Path) -> None:
    async with opened(house(tmp_path), max_body_mb=1, max_bodies_mb=4) as front:
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n"
        part = b'{"model": "a", "x": "' + b"x" * 700_000
        with connected(front, 4, b"") as clients:
            for client in clients:
                client.setblocking(True)
                client.sendall(head.format(front.key).encode() + part)
                client.setblocking(False)
            done, waiting = await asyncio.wait(
                {asyncio.create_task(ended(x)) for x in clients}, return_when=asyncio.FIRST_COMPLETED
            )
            assert all(b"429 Too Many" in x.result() for x in done)
            large = {"model": "a", "prompt": "x" * 700_000}
            answer = await front.ask("/v1/completions", large, Authorization=f"Bearer {front.admin}")
            assert answer.status == 200, "another key has its part"
            for task in waiting:
                task.cancel()
        for _ in range(8):
            assert (await front.ask("/v1/completions", large)).status == 200, "they are forgotten with their requests"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["a", "json", "0", "\ud800", "\r\nX: y", "a:latest", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "model name stream options format think keep_alive messages tools prompt system suffix images raw input role "
    "content tool_calls function arguments num_ctx num_predict stop temperature instance id bytes seconds pin"
).split()
MESSAGES = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4), max_size=3)
BODIES = st.dictionaries(st.sampled_from(NAMES), VALUES | MESSAGES | st.just("a"), max_size=6)
PATHS = [*POSTS, "/v1/responses", "/upstream/a/x", "/lmxd/stop", "/lmxd/pin", "/lmxd/yield", "/lmxd/unyield"]


async def test_no_body_is_a_fault_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Any fields of any types, on all routes: an answer that says what is wrong, and no traceback."""
    async with opened(house(tmp_path)) as front:
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(path=st.sampled_from(PATHS), body=BODIES, named=st.booleans())
        def fuzz(path: str, body: dict[str, Any], named: bool) -> None:
            said = body | ({"model": "a"} if named else {})
            status, text = asyncio.run_coroutine_threadsafe(asked(front, path, said), loop).result(60)
            theirs = any(words in text for words in ("the instance says", "the instance broke off", "bad_answer"))
            assert status < 500 or (theirs and status != 500), (path, said, status, text)
            assert "report this" not in text

        await asyncio.to_thread(fuzz)
        assert not [r for r in caplog.records if r.exc_info]
        assert (await front.ask("/metrics", method="GET")).status == 200


async def asked(front: Front, path: str, body: dict[str, Any]) -> tuple[int, str]:
    try:
        answer = await front.ask(path, body, Prefer="wait=0", Authorization=f"Bearer {front.admin}")
    except aiohttp.ClientPayloadError:
        return 200, "the fake engine fell over it in the middle of its answer, which was cut off"
    return answer.status, answer.text


METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT FOO get".split()
TARGETS = st.one_of(
    st.sampled_from(
        "/ /health /metrics /v1/models /v1/models/a /upstream/a/slots /lmxd/state /api/tags * // /..".split()
    ),
    st.text(st.characters(codec="latin-1", exclude_characters=" \r\n"), max_size=20).map(lambda x: f"/{x}"),
    st.text(st.sampled_from("%0aAfFeE/.;?#[]@:dD8"), max_size=20).map(lambda x: f"/upstream/{x}"),
)
NAMED = (
    "Host Origin Sec-Fetch-Site Authorization X-Api-Key Prefer Content-Length Transfer-Encoding Connection Upgrade "
    "Expect Content-Encoding Content-Type Range User-Agent"
)
SAID = (
    "x|localhost|[::1|chunked|gzip|5|-1|websocket|100-continue|wait=99999999999|Bearer \xff|close|upgrade|br|"
    "\xba|deflate"
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(NAMED.split()),
        st.sampled_from(SAID.split("|"))
        | st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12),
    ),
    max_size=4,
)


async def test_no_request_is_a_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any method, target, headers and bytes after them: an answer below 500, or none in time, and no traceback."""
    monkeypatch.setattr("lmxd.listening.connection.HEAD_TIMEOUT", 0.5)
    monkeypatch.setattr("lmxd.listening.connection.LINGER", 0.1)
    monkeypatch.setattr("lmxd.gateway.requests.bodies.GRACE", 0.2)
    async with opened(house(tmp_path), wait=0) as front:
        loop = asyncio.get_running_loop()

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            method=st.sampled_from(METHODS),
            target=TARGETS,
            headers=HEADERS,
            known=st.booleans(),
            body=st.sampled_from([b"", b"{}", b"5\r\nabcde\r\n0\r\n\r\n", b"\xff" * 40, b"zz\r\n"]),
        )
        def fuzz(method: str, target: str, headers: list[tuple[str, str]], known: bool, body: bytes) -> None:
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            lines += ["Host: localhost"] * (not any(name == "Host" for name, _ in headers))
            lines += [f"Authorization: Bearer {front.admin}"] * known
            said = "\r\n".join((*lines, "Connection: close", "", "")).encode("latin-1") + body
            told = asyncio.run_coroutine_threadsafe(answered(front, said), loop).result(60)
            found = re.match(rb"HTTP/1\.[01] ([1-4]\d\d) ", told)
            assert not told or found or b": sandbox" in told, (said, told)

        await asyncio.to_thread(fuzz)
        for name in NAMED.split():
            for value in ("\xff", "Bearer \xff", "\xed\xa0\x80"):
                said = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nConnection: close\r\n\r\n"
                told = await answered(front, said.encode("latin-1"))
                assert re.match(rb"HTTP/1\.[01] 4\d\d ", told), (name, value, told)
        assert not [r for r in caplog.records if r.exc_info]
        assert (await front.ask("/metrics", method="GET")).status == 200


async def answered(front: Front, said: bytes) -> bytes:
    """The answer to bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        writer.write(said)
        return await asyncio.wait_for(reader.read(65536), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()
