"""Parameters of requests that a model strips and sets, and variants of it: by every API, of one instance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import ollama
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from prometheus_client.parser import text_string_to_metric_families

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.config.filters import wrong_name, wrong_value
from lmxd.errors import LmxdError
from lmxd.gateway.leasing.filters import filtered
from lmxd.gateway.leasing.models import Meaning
from lmxd.gateway.requests.engine_body import engine_body
from lmxd.rpc.books import ModelInfo, VariantInfo

HELLO: Any = [{"role": "user", "content": "hi"}]
OFF, ON = ({"enable_thinking": said} for said in (False, True))
MODEL = {
    "estimated_memory_gb": 12,
    "aliases": ["gpt-4o", "team/llama:latest"],
    "set": {"temperature": 0.6, "chat_template_kwargs": OFF},
    "strip": "top_p, seed",
    "variants": {
        "thinking": {"set": {"chat_template_kwargs": ON, "top_k": 20}, "strip": ["min_p"], "aliases": ["thinker"]},
        "plain": {"strip": ["temperature"]},
        "same": None,
    },
}
THINKING = ("a:thinking", "gpt-4o:thinking", "team/llama:thinking", "thinker", "thinker:latest")
SENT = {"temperature": 2, "top_p": 0.1, "seed": 3, "min_p": 0.5, "chat_template_kwargs": {"mine": 1}, "mine": [1, 2.50]}


def served(directory: Path) -> Any:
    return house(directory, a=MODEL, b={"estimated_memory_gb": 12})


async def asked(front: Front) -> dict[str, Any]:
    """The body that reached the engine last."""
    said: dict[str, Any] = json.loads((await front.ask("/upstream/a/fake/asked", method="GET")).text)
    return said


PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/completion",
    "/infill",
    "/upstream/{}/completion",
)


async def test_each_path_strips_first_and_then_sets_whatever_a_client_says(tmp_path: Path) -> None:
    kept = {"model": "a", "mine": [1, 2.50], "temperature": 0.6}
    async with opened(served(tmp_path)) as front:
        for path in PATHS:
            await front.ask(path.format("a"), {"model": "a", **SENT})
            assert await asked(front) == {**kept, "min_p": 0.5, "chat_template_kwargs": OFF}, path
            await front.ask(path.format("a:thinking"), {"model": "a:thinking", **SENT})
            assert await asked(front) == {**kept, "chat_template_kwargs": ON, "top_k": 20}, path
        assert list(front.house.phases()) == ["a#1"]


async def test_every_name_of_a_variant_means_it(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        for name in THINKING:
            await front.chat(name)
            assert (await asked(front))["top_k"] == 20, name
        for name in ("a", "a:latest", "gpt-4o", "team/llama", "a:same"):
            await front.chat(name)
            assert await asked(front) == {"model": "a", "messages": [], **MODEL["set"]}, name  # type: ignore[dict-item]
        await front.chat("a:plain", temperature=1)
        assert await asked(front) == {"model": "a", "messages": [], "chat_template_kwargs": OFF}
        answer = await front.chat("a:none")
        assert (answer.status, "there is no model 'a:none'" in answer.text) == (404, True)
        assert list(front.house.phases()) == ["a#1"]


async def test_real_clients_of_each_api(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key) as client:
            extra = {"chat_template_kwargs": {"mine": 1}, "min_p": 0.5}
            await client.chat.completions.create(
                model="a:thinking", messages=HELLO, temperature=2, top_p=0.1, seed=3, extra_body=extra
            )
            thought = {"temperature": 0.6, "chat_template_kwargs": ON, "top_k": 20}
            assert await asked(front) == {"model": "a", "messages": HELLO, **thought}
            assert (await client.models.retrieve("a:thinking")).model_dump()["parent"] == "a"
        async with anthropic.AsyncAnthropic(base_url=front.url, api_key=front.key) as messages:
            stream = await messages.messages.create(
                model="a:thinking", messages=HELLO, max_tokens=2, stream=True, extra_body={"temperature": 1.0}
            )
            await stream.close()
        said = await asked(front)
        assert {name: said[name] for name in thought} == thought
        told = ollama.AsyncClient(host=front.url, headers=front.headers())
        options: Any = {"temperature": 2, "top_p": 0.1, "seed": 3, "min_p": 0.5, "num_predict": 2}
        answers = (
            await told.chat(model="thinker", messages=HELLO, options=options, think=False),
            await told.generate(model="thinker", prompt="hi", options=options),
            await told.generate(model="thinker", prompt="hi", options=options, raw=True),
        )
        said = await asked(front)
        assert all(answer.model == "thinker" for answer in answers)
        assert {name: said[name] for name in ("model", "stream", *thought)} == {"model": "a", "stream": True, **thought}
        assert not {"top_p", "seed", "min_p"} & said.keys()


async def test_the_path_and_the_body_may_name_the_variant(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        for path, body in (("a", "a:thinking"), ("a:thinking", "a"), ("thinker", "another"), ("thinker", "a:plain")):
            await front.ask(f"/upstream/{path}/v1/chat/completions", {"model": body})
            said = await asked(front)
            assert (said["model"], said["top_k"]) == ("another" if body == "another" else "a", 20), (path, body)


async def test_a_form_is_filtered_and_keeps_its_file(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        form = aiohttp.FormData({"model": "a:thinking", "temperature": "2", "top_p": "", "language": "en"})
        form.add_field("file", b"\r\n--text\r\n", filename="x.wav")
        async with front.session.post("/v1/audio/transcriptions", data=form, headers=front.headers()) as answer:
            assert answer.status == 200
        body = (await front.ask("/upstream/a/fake/asked", method="GET")).text
        boundary = body.partition("\r\n")[0]
        parts = [part.partition("\r\n\r\n") for part in body.split(boundary)[1:-1]]
        said = {head.partition('name="')[2].partition('"')[0]: value.removesuffix("\r\n") for head, _, value in parts}
        assert len(said) == len(parts)
        assert said == {
            "model": "a",
            "language": "en",
            "file": "\r\n--text\r\n",
            "temperature": "0.6",
            "top_k": "20",
            "chat_template_kwargs": '{"enable_thinking":true}',
        }


async def test_lists_have_variants_with_their_model(tmp_path: Path) -> None:
    own = ("a", "gpt-4o", "team/llama")
    variants = [f"{name}:{tag}" for tag in ("plain", "same", "thinking") for name in own]
    names = ["a", "gpt-4o", "team/llama:latest", *variants, "thinker"]
    async with opened(served(tmp_path)) as front:
        listed = json.loads((await front.ask("/v1/models", method="GET")).text)["data"]
        assert [x["id"] for x in listed] == [*names, "b"]
        assert [x.get("parent") for x in listed] == [None] * 3 + ["a"] * 10 + [None]
        tags = json.loads((await front.ask("/api/tags", method="GET")).text)["models"]
        assert [x["model"] for x in tags] == [*names, "b"]
        assert [x["details"]["parent_model"] for x in tags] == [""] * 3 + ["a"] * 10 + [""]
        assert len({x["digest"] for x in tags[:-1]}) == 1
        told = ollama.AsyncClient(host=front.url, headers=front.headers())
        shown = (await told.show("thinker")).parameters or ""
        assert shown.splitlines()[1:] == [
            'chat_template_kwargs {"enable_thinking":true}',
            "temperature 0.6",
            "top_k 20",
        ]
        assert ((await told.show("b")).parameters or "").splitlines()[1:] == []
        assert (await told.pull("a:thinking")).status == "success"


async def test_a_variant_has_the_queue_the_figures_and_the_end_of_its_model(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        await front.ask("/api/chat", {"model": "a:thinking", "messages": [], "keep_alive": 60})
        await front.chat("gpt-4o:thinking")
        metrics = (await front.ask("/metrics", method="GET")).text
        found = {
            sample.labels["model"]
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if "model" in sample.labels
        }
        assert found == {"a"}
        assert list(front.house.phases()) == ["a#1"]
        assert (await front.ask("/api/models/unload/thinker")).status == 200
        await front.until(lambda: not front.house.state.instances)


async def test_a_reload_changes_filters_at_once_and_what_runs_stays(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        await front.chat("a:thinking")
        front.house.write(models={"a": {**MODEL, "set": {"top_k": 1}, "strip": [], "variants": {"new": None}}})
        await front.house.daemon.reload()
        async with opened_again(front) as other:
            await other.chat("a:new", seed=3)
            assert await asked(other) == {"model": "a", "messages": [], "seed": 3, "top_k": 1}
            assert (await other.chat("a:thinking")).status == 404
        assert front.house.phases() == {"a#1": "ready"}


def opened_again(front: Front) -> Any:
    """Another gateway over the same house, which has asked for no list yet."""
    return Front(front.house).open()


NAMES = st.sampled_from(("a", "b", "model", "stream", "a.b", "a.c", "a.b.c", "b.a"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
FILTERS = st.builds(
    lambda set, strip: VariantInfo(name="v", set=set, strip=strip),
    st.dictionaries(NAMES.filter(lambda name: not wrong_name(name)), JSON, max_size=3),
    st.lists(NAMES.filter(lambda name: not wrong_name(name)), max_size=3),
)
BODIES = st.dictionaries(st.sampled_from(("a", "b", "c", "model", "stream")), JSON, max_size=4)


def plain(body: dict[str, Any], *filters: VariantInfo) -> dict[str, Any]:
    raw = {name: Raw(json.dumps(value).encode()) for name, value in body.items()}
    return {name: json.loads(bytes(value)) for name, value in filtered(raw, filters).items()}


@given(BODIES, FILTERS, FILTERS)
def test_filters_come_to_the_same_when_they_come_twice(
    body: dict[str, Any], one: VariantInfo, other: VariantInfo
) -> None:
    once = plain(body, one, other)
    assert plain(once, one, other) == once
    for name in ("model", "stream", "c"):
        assert once.get(name, "none") == body.get(name, "none")
    for name, value in other.set.items():
        if "." not in name and not any(longer.startswith(f"{name}.") for longer in other.set):
            assert once[name] == value
    for name in {*one.strip, *other.strip} - {set.partition(".")[0] for x in (one, other) for set in x.set}:
        assert "." in name or name not in once


@pytest.mark.parametrize(
    ("body", "filter", "found"),
    [
        ({"k": {"a": 1, "b": 2}}, {"set": {"k.a": 3}}, {"k": {"a": 3, "b": 2}}),
        ({"k": {"a": 1, "b": 2}}, {"set": {"k": {"a": 3}}}, {"k": {"a": 3}}),
        ({"k": 1}, {"set": {"k.a.b": 3}}, {"k": {"a": {"b": 3}}}),
        ({"k": {"a": 1, "b": 2}}, {"strip": ["k.a", "k.c", "x.y"]}, {"k": {"b": 2}}),
        ({"k": [1]}, {"strip": ["k.0", "k.a"]}, {"k": [1]}),
        (
            {"n_predict": 9, "max_completion_tokens": 9},
            {"set": {"max_tokens": 1}},
            {"n_predict": 1, "max_completion_tokens": 1, "max_tokens": 1},
        ),
        ({"n_predict": 9}, {"set": {"max_tokens": 1, "n_predict": 2}}, {"n_predict": 2, "max_tokens": 1}),
        ({"n_predict": 9, "max_output_tokens": 9, "n_cmpl": 2}, {"strip": ["max_tokens", "n"]}, {}),
        ({"n_predict": 9, "n": 2}, {"set": {"n": 1}, "strip": ["k"]}, {"n_predict": 9, "n": 1}),
        ({"k": 1, "l": 1}, {"set": {"k": None, "m": 0.1}, "strip": ["k", "l"]}, {"k": None, "m": 0.1}),
    ],
)
def test_what_is_stripped_and_set_and_how(body: Any, filter: Any, found: Any) -> None:
    assert plain(body, VariantInfo(name="v", **filter)) == found


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_whatever_a_configuration_sets_can_be_sent(values: dict[str, Any]) -> None:
    values = {name: value for name, value in values.items() if not (wrong_name(name) or wrong_value(value))}
    filtered({}, [VariantInfo(name="v", set=values)])


UNREADABLE = (b"{", b"\xff", b'{"a": }', b'--b\r\n"', b'{"a":"\xff","model":"\xff"}')
LENIENT = (
    b'\xef\xbb\xbf{"y": 1}',
    b'{"y": 1}\0',
    b'{"y": 1, "z": NaN}',
    b'/**/{"y": 1}',
    '{"y": 1}'.encode("utf-16"),
    b'{"y": 1, "z": %b}' % (b"[" * 9999 + b"]" * 9999),
)
"""Bodies that some engine reads, though they are no JSON, or have more layers than are read here."""
KINDS = ("application/json", "multipart/form-data; boundary=b", "multipart/form-data", "text/plain", "")


def meaning(**filters: Any) -> Meaning:
    return Meaning("a", ModelInfo(model="a", ctx=1, slots=1, bytes={}, running=0, aliases=["b"], **filters))


@pytest.mark.parametrize("body", [*UNREADABLE, *LENIENT, b"[" * 9999, b"[1]", b'"a"', b""])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_object_is_for_the_engine_to_refuse(body: bytes, kind: str) -> None:
    meant = meaning()
    assert engine_body(body, kind, meant, {"a": meant}) == body


@pytest.mark.parametrize("body", [*UNREADABLE, *LENIENT])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_gets_by_what_is_set_or_stripped_because_it_cannot_be_read(body: bytes, kind: str) -> None:
    for filters in ({"set": {"x": 1}}, {"strip": ["y"]}):
        meant = meaning(**filters)
        with pytest.raises(LmxdError, match="a has parameters set or stripped") as refused:
            engine_body(body, kind, meant, {"a": meant})
        assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("body", [b"[" * 9999, b"[1]", b'"a"', b"7", b""])
def test_what_has_no_parameters_goes_on_as_it_came(body: bytes) -> None:
    meant = meaning(set={"x": 1})
    assert engine_body(body, "application/json", meant, {"a": meant}) == body


async def test_an_object_in_which_something_is_set_is_read_as_far_as_that(tmp_path: Path) -> None:
    dotted = {"estimated_memory_gb": 12, "set": {"k.x": 1}, "strip": "l.y"}
    async with opened(house(tmp_path, a=dotted)) as front:
        for body in (b'{"model":"a","k":{"\xff":1}}', b'{"model":"a","l":{"\xff":1}}'):
            for path in ("/v1/chat/completions", "/upstream/a/completion"):
                answer = await front.ask(path, body)
                assert (answer.status, json.loads(answer.text)["error"]["code"]) == (400, "invalid_request"), body


async def test_a_path_of_an_instance_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    async with opened(served(tmp_path)) as front:
        for body in (*UNREADABLE, *LENIENT):
            answer = await front.ask("/upstream/a/completion", body)
            assert (answer.status, json.loads(answer.text)["error"]["code"]) == (400, "invalid_request"), body


def test_a_body_is_kept_to_the_byte_where_nothing_is_to_be_changed() -> None:
    model = ModelInfo(model="a", aliases=["b"], ctx=1, slots=1, bytes={}, running=0, set={"x": 1}, strip=["y"])
    names = {name: Meaning(name, model) for name in model.names}
    body = b'{"x":1,  "model" :"a"}'
    assert engine_body(body, "application/json", names["a"], names) == body
    assert json.loads(engine_body(b'{"y": 1, "y": 2, "model":"b"}', "", names["b"], names)) == {"model": "a", "x": 1}
