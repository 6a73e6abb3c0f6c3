"""ollama's words in OpenAI's, and its API over the same leases."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import ollama
import openai
import pytest
from house import model

from gateway.front import Front, opened
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.answers.parts import Chunk
from lmxd.gateway.ollama import translation
from lmxd.gateway.requests.wanted import Chat, Generate, Options, decode


def chat(**said: Any) -> Chat:
    return decode(json.dumps({"model": "a"} | said).encode(), Chat)


def piece_of(answer: translation.Answer, **chunk: Any) -> dict[str, Any]:
    return answer.take(decode(json.dumps(chunk).encode(), Chunk))


def test_options_become_parameters() -> None:
    body = translation.options(chat(options={"num_predict": 7, "temperature": 0, "num_gpu": 3, "stop": ["x"]}))
    assert body["max_tokens"] == 7
    assert body["temperature"] == 0
    assert body["stop"] == ["x"]
    assert "num_gpu" not in body


def test_as_many_tokens_as_it_takes() -> None:
    assert "max_tokens" not in translation.options(chat(options={"num_predict": -1}))


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ("json", {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}),
        ({"type": "object"}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}),
    ],
)
def test_formats(wanted: Any, made: Any) -> None:
    body = json.loads(msgspec.json.encode(translation.options(chat(format=wanted))))
    assert body["response_format"] == made


@pytest.mark.parametrize("said", [{"format": 3}, {"options": [1]}])
def test_what_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(LmxdError, match=r"format|options"):
        translation.options(chat(**said))


def test_what_tools_answered_belongs_to_the_calls_in_their_order() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    said = chat(
        messages=[
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "one"},
            {"role": "tool", "content": "two"},
        ]
    )
    made = translation.asked(said, said.messages or [])["messages"]
    ids = [x["id"] for x in made[1]["tool_calls"]]
    assert [x["tool_call_id"] for x in made[2:]] == ids
    assert json.loads(made[1]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}


def test_pictures_become_parts() -> None:
    said = chat(messages=[{"role": "user", "content": "what?", "images": ["QUJD"]}])
    [made] = translation.asked(said, said.messages or [])["messages"]
    assert made["content"][1]["image_url"]["url"].endswith("base64,QUJD")


def test_calls_that_come_in_pieces_are_put_together() -> None:
    answer = translation.Answer()
    piece = {"index": 0, "function": {"name": "f", "arguments": '{"a":'}}
    assert piece_of(answer, choices=[{"delta": {"tool_calls": [piece]}}]) == {}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    piece_of(answer, choices=[{"delta": {"tool_calls": [rest]}}])
    made = piece_of(answer, choices=[{"delta": {}, "finish_reason": "tool_calls"}])
    assert made == {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}


def test_counts_and_reasons() -> None:
    answer = translation.Answer()
    piece_of(answer, choices=[{"delta": {"content": "x"}, "finish_reason": "length"}])
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    piece_of(answer, choices=[], usage=usage, timings={"predicted_ms": 2})
    assert answer.reason == "length"
    assert answer.counts["prompt_eval_count"] == 3
    assert answer.counts["eval_duration"] == 2_000_000


def add_all(whole: translation.Whole, messages: Iterable[dict[str, Any]]) -> None:
    for message in messages:
        whole.add(message)


def take_all(answer: translation.Answer, called: Iterable[dict[str, Any]]) -> None:
    """A part of a call in each chunk; every ninth ends the calls so far."""
    for n, part in enumerate(called):
        ended = None if n % 9 else "tool_calls"
        piece_of(answer, choices=[{"delta": {"tool_calls": [part]}, "finish_reason": ended}])


def test_a_long_answer_is_put_together_once_and_has_an_end() -> None:
    """Each token copied all that had come before it, and there was no end."""
    whole = translation.Whole()
    for _ in range(300_000):
        whole.add({"content": "abcd"})
    whole.add({"thinking": "é", "tool_calls": [1]})
    whole.add({"tool_calls": [2]})
    assert whole.message == {"content": "abcd" * 300_000, "thinking": "é", "tool_calls": [1, 2]}
    with pytest.raises(LmxdError, match="too much") as caught:
        add_all(whole, ({"content": "x" * 2**20} for _ in range(70)))
    assert caught.value.code == "bad_answer"


def test_the_calls_of_an_answer_have_an_end() -> None:
    many = ({"index": n, "function": {"name": "f"}} for n in range(5000))
    long = ({"index": 0, "function": {"arguments": "y" * 100_000}} for _ in range(5000))
    for endless in (many, long):
        with pytest.raises(LmxdError, match="calls of tools"):
            take_all(translation.Answer(), endless)


@pytest.mark.parametrize(
    "arguments", ['{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "[" * 200 + "]" * 200 + "}", "[1]", '{"a": 1e999}']
)
def test_arguments_that_are_no_such_json_are_text(arguments: str) -> None:
    answer = translation.Answer()
    called = {"index": 0, "function": {"name": "f", "arguments": arguments}}
    made = piece_of(answer, choices=[{"delta": {"tool_calls": [called]}, "finish_reason": "tool_calls"}])
    assert made["tool_calls"][0]["function"]["arguments"] == {"arguments": arguments}
    json.dumps(made, allow_nan=False)


async def lines(front: Front, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await front.ask(path, body)
    assert answer.status == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_chat_streams_unless_told_otherwise(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        asked = {"model": "a:latest", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 3}}
        *said, last = await lines(front, "/api/chat", asked)
        assert [x["message"]["content"] for x in said] == ["x"] * 3
        assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 3)
        [whole] = await lines(front, "/api/chat", asked | {"stream": False})
        assert whole["message"] == {"role": "assistant", "content": "xxx"}
        assert whole["done"]


async def test_tools_are_called_as_openai_and_as_ollama_do(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    async with opened(house(tmp_path)) as front:
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=front.key)
        async with client:
            asked: Any = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
            [call] = (await client.chat.completions.create(**asked)).choices[0].message.tool_calls or []
            assert json.loads(call.function.arguments) == {"city": "Paris"}
            pieces = [x async for x in await client.chat.completions.create(**asked, stream=True)]
            [call] = pieces[0].choices[0].delta.tool_calls or []
            assert call.function.name == "get_weather"
        told = ollama.AsyncClient(host=front.url, headers=front.headers())
        answer = await told.chat(**asked)
        [called] = answer.message.tool_calls or []
        assert called.function.arguments == {"city": "Paris"}


async def test_generate(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        asked = {"model": "a", "prompt": "hi", "system": "be brief", "stream": False, "options": {"num_predict": 2}}
        [whole] = await lines(front, "/api/generate", asked)
        assert whole["response"] == "xx"


async def test_without_a_prompt_the_model_is_loaded(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        [said] = await lines(front, "/api/generate", {"model": "a"})
        assert (said["done_reason"], said["done"]) == ("load", True)
        assert front.house.phases() == {"a#1": "ready"}
        [said] = await lines(front, "/api/chat", {"model": "b", "keep_alive": 0})
        assert said["done_reason"] == "unload"
        assert front.house.phases() == {"a#1": "ready"}


async def test_a_context_beyond_the_usual_one_is_asked_for(tmp_path: Path) -> None:
    async with opened(house(tmp_path, a={"context_length": 2048})) as front:
        asked = {"model": "a", "prompt": "hi", "options": {"num_ctx": 1024, "num_predict": 1}}
        await lines(front, "/api/generate", asked)
        assert [i.ask.context for i in front.house.state.instances.values()] == [2048]
        asked["options"] = {"num_ctx": 8192, "num_predict": 1}
        await lines(front, "/api/generate", asked)
        assert 8192 in [i.ask.context for i in front.house.state.instances.values()]


async def test_what_there_is_and_what_runs(tmp_path: Path) -> None:
    async with opened(house(tmp_path)) as front:
        tags = json.loads((await front.ask("/api/tags", method="GET")).text)["models"]
        assert [x["name"] for x in tags] == ["a", "b"]
        assert tags[0]["size"] == next(tmp_path.rglob("a.gguf")).stat().st_size, "of the file, as ollama has it"
        assert json.loads((await front.ask("/api/ps", method="GET")).text) == {"models": []}
        await front.chat("a")
        [running] = json.loads((await front.ask("/api/ps", method="GET")).text)["models"]
        assert (running["model"], running["size_vram"]) == ("a", 12 * 2**30)
        assert json.loads((await front.ask("/api/show", {"model": "a"})).text)["capabilities"]
        assert json.loads((await front.ask("/api/version", method="GET", Authorization="")).text)["version"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "none", "prompt": "x"}, 404),
        ({"prompt": "x"}, 400),
        ({"model": "a", "prompt": "x", "suffix": "y"}, 400),
    ],
)
async def test_errors_are_ollamas(tmp_path: Path, body: dict[str, Any], status: int) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/api/generate", body)
        assert answer.status == status
        assert isinstance(json.loads(answer.text)["error"], str)


async def test_an_engine_that_dies_is_said(tmp_path: Path) -> None:
    model(tmp_path, "a", die_after=2)
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/api/generate", {"model": "a", "prompt": "x", "stream": False})
        assert answer.status == 503
        assert "broke off" in json.loads(answer.text)["error"]


def test_any_number_of_json_is_an_option() -> None:
    body = translation.options(chat(options={"num_predict": 7.0, "top_k": 40.0, "seed": -1, "temperature": 1}))
    assert (body["max_tokens"], body["top_k"], body["seed"], body["temperature"]) == (7, 40, 2**32 - 1, 1)
    assert all(isinstance(body[name], int) for name in ("max_tokens", "top_k", "seed"))
    assert translation.options(chat(options={"seed": 10**18 + 0.5}))["seed"] < 2**32


@pytest.mark.parametrize(
    ("think", "told"),
    [
        (None, {}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            "low",
            {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}},
        ),
    ],
)
def test_levels_of_thought(think: Any, told: dict[str, Any]) -> None:
    body = translation.options(chat(think=think))
    assert {key: body[key] for key in ("reasoning_effort", "chat_template_kwargs") if key in body} == told


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(LmxdError, match="think"):
        chat(think="a lot")


def test_earlier_thoughts_are_handed_on() -> None:
    said = chat(messages=[{"role": "assistant", "content": "4", "thinking": "2 + 2"}])
    [made] = translation.asked(said, said.messages or [])["messages"]
    assert made["reasoning_content"] == "2 + 2"


def test_probabilities_are_asked_for_and_told() -> None:
    said = chat(messages=[{"content": "hi"}], logprobs=True, top_logprobs=2)
    body = translation.asked(said, said.messages or [])
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    token = {"token": "x", "logprob": -0.5, "bytes": [120], "id": 3, "top_logprobs": [{"token": "x", "logprob": -0.5}]}
    made = piece_of(translation.Answer(), choices=[{"delta": {"content": "x"}, "logprobs": {"content": [token]}}])
    assert made["logprobs"] == [{key: value for key, value in token.items() if key != "id"}]
    whole = translation.Whole()
    add_all(whole, [made, made])
    assert len(whole.message["logprobs"]) == 2


def contexts(front: Front) -> set[int]:
    return {i.ask.context for i in front.house.state.instances.values() if i.live}


async def generate_at(front: Front, context: float) -> None:
    await lines(
        front, "/api/generate", {"model": "a", "prompt": "x", "options": {"num_ctx": context, "num_predict": 1}}
    )


async def test_contexts_come_in_steps_up_to_the_trained_one(tmp_path: Path) -> None:
    """The model was trained for 32768 tokens. Clients such as aider name another context with each request."""
    async with opened(house(tmp_path, a={"context_length": 2048})) as front:
        for wanted, most in ((5000, 8192), (6000.5, 8192), (20_000, 32_768), (10**9, 32_768), (1e300, 32_768)):
            await generate_at(front, wanted)
            assert max(contexts(front)) == most
        assert contexts(front) <= {8192, 32_768}


@pytest.mark.parametrize("context", [0, -1, 0.5])
async def test_no_context_is_the_usual_one(tmp_path: Path, context: float) -> None:
    async with opened(house(tmp_path, a={"context_length": 2048})) as front:
        await generate_at(front, context)
        assert contexts(front) == {2048}


async def test_minus_one_is_every_token_of_which_none_is_to_be_repeated() -> None:
    said = Generate(model="a", options=Options(repeat_last_n=-1.0, num_predict=-2))
    made = translation.options(said)
    assert made["repeat_last_n"] == 2**17
    assert "max_tokens" not in made


@pytest.mark.parametrize("word", ['"xml"', "7", '["json"]'])
async def test_a_format_that_is_none_is_said_as_it_was_sent(tmp_path: Path, word: str) -> None:
    async with opened(house(tmp_path)) as front:
        answer = await front.ask("/api/generate", b'{"model": "a", "prompt": "x", "format": %b}' % word.encode())
        assert (answer.status, json.loads(answer.text)["error"]) == (400, f"format: {word} (json, or a JSON Schema)")


@pytest.mark.parametrize("said", [{}, {"input": None}, {"input": ""}, {"input": []}])
async def test_of_no_text_there_are_no_vectors(tmp_path: Path, said: dict[str, Any]) -> None:
    """Such a request only loads the model."""
    async with opened(house(tmp_path)) as front:
        [answer] = await lines(front, "/api/embed", {"model": "a", **said})
        assert (answer["embeddings"], answer["prompt_eval_count"]) == ([], 0)
        assert front.house.phases() == {"a#1": "ready"}


async def test_the_exact_context_is_had_where_the_step_never_fits(tmp_path: Path) -> None:
    made = house(tmp_path, a={"context_length": 2048})
    async with made.open(), made.client() as client:
        needs = [(await client.plan("a", ctx=ctx)).devices for ctx in (20_000, 32_768)]
    most = sum(size for need in needs for size in need.values()) / 2
    made.write(gpu={"max_memory_gb": most / 2**30})
    async with opened(made) as front:
        await generate_at(front, 20_000)
        assert contexts(front) == {20_000}
