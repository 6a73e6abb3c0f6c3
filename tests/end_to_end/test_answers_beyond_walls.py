"""Answers that fill their context while they are written, by the real llama-server and real clients."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateway_process import Gateway
from lmxd_process import Lmxd

DIGITS = " ".join(f"{n * 7919 % 10**8:08}" for n in range(17))
"""Some 150 tokens of as many bytes: a guess by bytes is that their answer has room."""
LIMIT = 110
GREEDY = {"temperature": 0}
Told = tuple[str, str | None, int, int, int]
"""(text, the reason of its end, tokens of the prompt, of the answer, of both)."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Gateway]:
    """Three models of the same file: one that grows from 256 to 1,024 tokens, one whose four slots share those, and one
    that has them from the start.
    """
    static = {"path": str(smollm2), "context_length": 1024, "threads": 1}
    shared = static | {"kv_unified": True, "slots": 4, "elastic": {"start": 256, "steps": [1024]}}
    models = {"elastic": static | {"elastic": {"start": 256}}, "shared": shared, "static": static}
    config = {"gpu": {"device": "host", "max_memory_gb": 2}, "models": models}
    with Lmxd(tmp_path_factory.mktemp("walls"), config) as lmxd, Gateway(lmxd) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    base_url = f"{gateway.url}/v1"
    return openai.OpenAI(base_url=base_url, api_key=gateway.key, max_retries=0, default_headers={"Prefer": "wait=0"})


def refusals(gateway: Gateway) -> int:
    return gateway.lmxd.log.read_text().count(" refused (no_capacity): have l-")


def continued(gateway: Gateway, model: str = "elastic") -> int:
    """Answers that went on beyond a wall, of which the prompt was not processed anew."""
    asked = urllib.request.Request(f"{gateway.url}/metrics", headers={"Authorization": f"Bearer {gateway.admin}"})
    with urllib.request.urlopen(asked, timeout=30) as told:
        found = re.search(rf'lmxd_gateway_walls_total{{how="continued",model="{model}"}} (\d+)', told.read().decode())
    return int(found[1]) if found else 0


def empty(gateway: Gateway) -> None:
    with gateway.lmxd.client() as daemon:
        for instance in daemon.instances().instances:
            daemon.stop(instance.instance)
        Lmxd.until(lambda: not daemon.instances().instances)
        Lmxd.until(lambda: not daemon.devices().devices[0].reclaiming)


@contextmanager
def crowded(gateway: Gateway, client: openai.OpenAI) -> Iterator[None]:
    """Another has all bytes that the model does not take, until the growth of a first request is refused."""
    empty(gateway)
    with gateway.lmxd.client() as daemon:
        client.completions.create(model="elastic", prompt="1", max_tokens=1)
        hold = daemon.hold(daemon.devices().devices[0].headroom)
        with left(gateway, hold.lease):
            yield


@contextmanager
def left(gateway: Gateway, lease: str) -> Iterator[None]:
    """A lease is given back as soon as a growth has been refused."""
    before = refusals(gateway)

    def leave() -> None:
        Lmxd.until(lambda: refusals(gateway) > before)
        with gateway.lmxd.client() as other:
            other.release(lease)

    leaving = threading.Thread(target=leave)
    leaving.start()
    yield
    leaving.join()


def of_usage(usage: Any) -> tuple[int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def question(of: str) -> str:
    """Each is another: one whose conversation lies in a larger instance would begin there."""
    return f"{of}. Tell me a story of a fox and a lake. {DIGITS}"


def chat(client: openai.OpenAI, model: str) -> Told:
    messages: Any = [{"role": "user", "content": question("chat")}]
    answer = client.chat.completions.create(
        model=model, messages=messages, max_tokens=LIMIT, temperature=0, extra_body={"ignore_eos": True}
    )
    choice = answer.choices[0]
    return choice.message.content or "", choice.finish_reason, *of_usage(answer.usage)


def streamed_chat(client: openai.OpenAI, model: str) -> Told:
    messages: Any = [{"role": "user", "content": question("chat in a stream")}]
    text, end, usage, ids = "", None, None, set()
    for chunk in client.chat.completions.create(
        model=model,
        messages=messages,
        max_tokens=LIMIT,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    ):
        ids.add(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            end = choice.finish_reason or end
    assert len(ids) == 1
    return text, end, *of_usage(usage)


def completion(client: openai.OpenAI, model: str) -> Told:
    answer = client.completions.create(
        model=model, prompt=question("text"), max_tokens=LIMIT, temperature=0, extra_body={"ignore_eos": True}
    )
    return answer.choices[0].text, answer.choices[0].finish_reason, *of_usage(answer.usage)


def streamed_completion(client: openai.OpenAI, model: str) -> Told:
    text, end, usage, ids = "", None, None, set()
    for chunk in client.completions.create(
        model=model,
        prompt=question("streamed text"),
        max_tokens=LIMIT,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    ):
        ids.add(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.text
            end = choice.finish_reason or end
    assert len(ids) == 1
    return text, str(end), *of_usage(usage)


def response(client: openai.OpenAI, model: str) -> Told:
    return of_response(
        client.responses.create(model=model, input=question("response"), max_output_tokens=LIMIT, temperature=0)
    )


def streamed_response(client: openai.OpenAI, model: str) -> Told:
    """OpenAI's client puts the events together by the numbers and the ids in them."""
    text, numbers, ids = "", [], set()
    asked = question("streamed response")
    with client.responses.stream(model=model, input=asked, max_output_tokens=LIMIT, temperature=0) as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
                ids.add(event.item_id)
        found: Any = stream.get_final_response()
    told = of_response(found)
    assert numbers == list(range(len(numbers)))
    assert ids == {found.output[0].id}
    assert told[0] == text
    return told


def of_response(answer: Any) -> Told:
    usage = answer.usage
    return answer.output_text, answer.status, usage.input_tokens, usage.output_tokens, usage.total_tokens


def message(client: openai.OpenAI, model: str) -> Told:
    asked: Any = [{"role": "user", "content": question("message")}]
    with of_anthropic(client) as other:
        return of_message(other.messages.create(model=model, messages=asked, max_tokens=LIMIT, extra_body=GREEDY))


def streamed_message(client: openai.OpenAI, model: str) -> Told:
    asked: Any = [{"role": "user", "content": question("streamed message")}]
    with (
        of_anthropic(client) as other,
        other.messages.stream(model=model, messages=asked, max_tokens=LIMIT, extra_body=GREEDY) as stream,
    ):
        text = "".join(stream.text_stream)
        told = of_message(stream.get_final_message())
    assert told[0] == text
    return told


def of_anthropic(client: openai.OpenAI) -> anthropic.Anthropic:
    """Anthropic's client of the same gateway."""
    base_url = str(client.base_url).removesuffix("/v1/")
    return anthropic.Anthropic(
        base_url=base_url, api_key=client.api_key, max_retries=0, default_headers={"Prefer": "wait=0"}
    )


def of_message(answer: Any) -> Told:
    (block,), usage = answer.content, answer.usage
    asked = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    return block.text, answer.stop_reason, asked, usage.output_tokens, asked + usage.output_tokens


ASKS = [
    *(chat, streamed_chat, completion, streamed_completion),
    *(response, streamed_response, message, streamed_message),
]


@pytest.mark.parametrize("ask", ASKS)
def test_an_answer_goes_on_beyond_its_wall_as_a_static_one_does(
    gateway: Gateway, client: openai.OpenAI, ask: Any
) -> None:
    empty(gateway)
    static = ask(client, "static")
    assert static[-1] > 256
    moves, before = gateway.lmxd.log.read_text().count(" move l-"), continued(gateway)
    with crowded(gateway, client):
        assert ask(client, "elastic") == static
    assert gateway.lmxd.log.read_text().count(" move l-") == moves + 1
    Lmxd.until(lambda: continued(gateway) == before + 1)


@pytest.mark.parametrize("ask", [streamed_chat, completion, streamed_response, streamed_message])
def test_an_answer_goes_on_behind_its_bound_as_a_static_one_does(
    gateway: Gateway, client: openai.OpenAI, ask: Any
) -> None:
    """Others have three of four shares of the cache when it begins."""
    empty(gateway)
    static = ask(client, "static")
    before = continued(gateway, "shared")
    with gateway.lmxd.client() as daemon:
        others = daemon.request("shared", ctx=768, bounded=True)
        with left(gateway, others.lease):
            assert ask(client, "shared") == static
    Lmxd.until(lambda: continued(gateway, "shared") == before + 1)
