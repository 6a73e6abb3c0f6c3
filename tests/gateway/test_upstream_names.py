"""A model that its engine knows by another name than clients do: asked by that, and answered for by theirs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from devices.fake_nvml import FakeNvml
from house import House, card, fake_engine, model
from hypothesis import given
from hypothesis import strategies as st

from gateway.front import Front, opened
from lmxd.gateway.answers.names import NamedLines, called
from lmxd.gateway.answers.response_events import ResponseEvents

OWN = "/models/qwen"
"""The name that the engine knows."""
NAMES = ("a", "gpt-4o", "a:short")
SAID = {"id": 1, "model": f"{OWN}@main", "object": "chat.completion", "choices": []}
JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists)


def house(directory: Path) -> House:
    """An engine of one's own, which is the fake llama-server by a command line."""
    words = ["-m", "{model}", "--host", "{socket}", "--api-key-file", "{key_file}"]
    profile = {
        "command": [str(fake_engine(directory)), *words],
        "path": "a.gguf",
        "estimated_memory_gb": 1,
        "upstream_name": OWN,
        "aliases": ["gpt-4o"],
        "variants": {"short": {"set": {"max_tokens": 3}}},
    }
    return House(directory, FakeNvml(card()), models={"a": profile, "b": {}})


def framed(body: bytes, kind: str, *, chunks: bool = False) -> bytes:
    """An answer as bytes. In chunks of seven, so that none of its lines is whole."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n".encode()
    if not chunks:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    parts = [body[at : at + 7] for at in range(0, len(body), 7)]
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*parts, b""))


async def answers(front: Front, raw: bytes) -> None:
    """Has the engine give that answer from now on."""
    assert (await front.ask("/upstream/a/fake/answer", raw)).status == 200


async def test_an_engine_is_asked_by_the_name_of_its_own(tmp_path: Path) -> None:
    paths = ("/v1/chat/completions", "/v1/embeddings", "/v1/rerank", "/rerank", "/upstream/{}/v1/rerank")
    async with opened(house(tmp_path)) as front:
        for name, path in itertools.product(NAMES, paths):
            answer = await front.ask(path.format(name), {"model": name, "input": "é", "of_mine": [1, 2.50]})
            said = json.loads(answer.text)["asked"]
            assert said.pop("max_tokens", 3) == 3
            assert said == {"model": OWN, "input": "é", "of_mine": [1, 2.50]}, (name, path)


@pytest.mark.parametrize("said", [OWN, None, 3])
async def test_what_a_path_to_it_says_otherwise_is_for_the_engine_to_judge(tmp_path: Path, said: object) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/upstream/a/v1/rerank", {"model": said})
        assert json.loads(answer.text)["asked"] == {"model": said}


def form(*names: bytes) -> tuple[bytes, str]:
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    return b"".join(part % name for name in names) + b"--b--\r\n", "multipart/form-data; boundary=b"


OTHERS = (
    (b'{"model": "an adapter"}', "application/json", "invalid_params"),
    (b'{"model": "b"}', "", "invalid_params"),
    (b'{"mod\\u0065l": "b"}', "text/plain", "invalid_params"),
    (b'{"model": "a", "model": "an adapter"}', "application/json", "invalid_params"),
    (b'{"model": "an adapter"}', "multipart/form-data; boundary=b", "invalid_params"),
    (b'{"model": "an adapter"}', "audio/wav", "invalid_params"),
    (*form(b"an adapter"), "invalid_params"),
    (*form(b"an adapter", b"a"), "invalid_request"),
    (*form(b"a", b"an adapter"), "invalid_request"),
    ('{"model": "an adapter"}'.encode("utf-16"), "application/json", "invalid_request"),
    (b'\xef\xbb\xbf{"model": "an adapter"}', "application/json", "invalid_request"),
    (b"model=an+adapter", "application/x-www-form-urlencoded", "invalid_request"),
    (b'{"model": "an adapter", "x": %b}' % (b"[" * 9999 + b"]" * 9999), "application/json", "invalid_request"),
)


@pytest.mark.parametrize(("body", "kind", "code"), OTHERS)
async def test_a_path_to_it_is_to_no_other_model_of_its_engine(
    tmp_path: Path, body: bytes, kind: str, code: str
) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/upstream/a/v1/rerank", body, **{"Content-Type": kind})
        assert (answer.status, json.loads(answer.text)["error"]["code"]) == (400, code)
        assert not front.house.state.instances, "it was not even loaded"


async def test_a_path_to_it_takes_what_has_no_names(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        sound = bytes(range(256))
        assert (await front.ask("/upstream/a/fake/answer", framed(b"1", "application/json"))).status == 200
        for body, kind in ((sound, "audio/wav"), (b"[1]", "application/json"), form(b"gpt-4o", b"gpt-4o")):
            assert (await front.ask("/upstream/a/v1/rerank", body, **{"Content-Type": kind})).status == 200


async def test_the_name_that_an_engine_heeds_is_known_whatever_is_wrong_with_its_model(tmp_path: Path) -> None:
    models = {"c": {"engine": "vllm", "path": str(tmp_path / "gone")}, "d": {"path": "gone.gguf"}}
    async with opened(House(tmp_path, FakeNvml(card()), models=models)) as front, front.house.client() as lmxd:
        (tmp_path / "d.gguf").unlink()
        c, d = (await lmxd.models()).models
        assert c.problem is not None
        assert d.problem is not None
        assert (c.upstream_name, d.upstream_name) == ("c", None)
        answer = await front.ask("/upstream/c/v1/rerank", {"model": "an adapter"})
        assert json.loads(answer.text)["error"]["code"] == "invalid_params"


async def test_llama_server_heeds_no_name(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/upstream/b/v1/rerank", {"model": "what it says"})
        assert json.loads(answer.text)["asked"] == {"model": "what it says"}


async def test_a_form_names_it_anew_and_keeps_its_file(tmp_path: Path) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%b\r\n--b\r\n'
    form += b'Content-Disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
    sound = bytes(range(128)) + b"\r\n--c\r\nmodel a"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    async with opened(house(tmp_path)) as front:
        for name, path in itertools.product(("a", "gpt-4o"), ("transcriptions", "translations")):
            assert (await front.ask(f"/v1/audio/{path}", form % (sound, name.encode()), **kind)).status == 200
            url = f"{front.url}/upstream/a/fake/asked"
            async with front.session.get(url, headers=front.headers()) as asked:
                assert await asked.read() == form % (sound, OWN.encode())


async def test_another_model_beside_it_is_asked_and_answers_as_ever(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        raw = framed(json.dumps(SAID).encode(), "application/json")
        assert (await front.ask("/upstream/b/fake/answer", raw)).status == 200
        assert json.loads((await front.chat("b")).text) == SAID


async def test_an_answer_says_the_name_that_its_client_knows(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        for chunks in (False, True):
            await answers(front, framed(json.dumps(SAID).encode(), "application/json; charset=utf-8", chunks=chunks))
            for name in NAMES:
                assert json.loads((await front.chat(name)).text) == SAID | {"model": name}
            # the same connection serves the next request
            await answers(front, framed(json.dumps([SAID]).encode(), "application/json", chunks=chunks))
            assert json.loads((await front.chat("a")).text) == [SAID]


async def test_what_is_no_json_goes_on_as_it_came(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        await answers(front, framed(b'{"model": "x"}', "text/plain"))
        assert (await front.chat("a")).text == '{"model": "x"}'
        await answers(front, framed(b'{"model": ', "application/json"))
        assert (await front.chat("a")).text == '{"model": '


async def test_a_stream_says_it_in_each_of_its_events(tmp_path: Path) -> None:
    event = b"data: " + json.dumps(SAID | {"choices": [{"index": 0, "delta": {"content": "é"}}]}).encode() + b"\n\n"
    raw = framed(b": hello\n\n" + event * 3 + b"data: [DONE]\n\n", "text/event-stream", chunks=True)
    model(tmp_path, "a", answer=raw.decode())
    async with opened(house(tmp_path)) as front:
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key) as client:
            asked: Any = [{"role": "user", "content": "hi"}]
            stream = await client.chat.completions.create(model="gpt-4o", messages=asked, stream=True)
            seen = [(chunk.model, chunk.choices[0].delta.content) async for chunk in stream]
        assert seen == [("gpt-4o", "é")] * 3
        async with front.stream("a") as answer:
            text = await answer.text()
        assert text.startswith(": hello\n\ndata: {")
        assert text.endswith("\n\ndata: [DONE]\n\n")


async def test_an_error_of_the_engine_is_told_as_ever(tmp_path: Path) -> None:
    refused = b'HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"detail": "no"}'
    async with opened(house(tmp_path)) as front:
        await answers(front, refused)
        answer = await front.chat("a")
        assert (answer.status, "no" in answer.text) == (400, True)


async def test_who_leases_it_is_told_the_name(tmp_path: Path) -> None:
    async with house(tmp_path).open() as h, h.client() as lmxd:
        assert (await lmxd.request("a")).upstream_name == OWN
        assert (await lmxd.request("b")).upstream_name is None


@pytest.mark.parametrize("part", ["response", "message"])
def test_an_event_says_it_within(part: str) -> None:
    event = {"type": "x", part: {"id": 1, "model": OWN, "text": {"model": "kept"}}}
    assert json.loads(called(json.dumps(event).encode(), "a")) == {
        "type": "x",
        part: {"id": 1, "model": "a", "text": {"model": "kept"}},
    }


@given(st.dictionaries(st.text(), JSON))
def test_nothing_but_the_name_changes(fields: dict[str, Any]) -> None:
    made = json.loads(called(json.dumps(fields).encode(), "a"))
    assert made == fields | ({"model": "a"} if "model" in fields else {})


@given(st.binary())
def test_what_is_no_object_stays_as_it_is(data: bytes) -> None:
    try:
        named = "model" in json.loads(data)
    except (ValueError, TypeError, RecursionError):
        named = False
    if not named:
        assert called(data, "a") == data


def test_events_that_are_made_whole_say_it_too() -> None:
    lines = NamedLines("mine", ResponseEvents("mine"))
    item = {"type": "response.in_progress", "response": {"id": "r", "model": OWN}}
    made = lines.feed(b"event: response.in_progress\ndata: " + json.dumps(item).encode() + b"\n\n")
    said = [json.loads(line.removeprefix(b"data:")) for line in made.splitlines() if line.startswith(b"data:")]
    assert [event["type"] for event in said] == ["response.created", "response.in_progress"]
    assert [event["response"]["model"] for event in said] == ["mine", "mine"]
