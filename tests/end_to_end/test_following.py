"""Who has an elastic lease directly follows it as it moves: a program under ``lmxctl run``, and both clients."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmxd_process import Lmxd, post

from lmxd.rpc.client import AsyncClient, Client
from lmxd.rpc.messages import Granted

TALK = """
import json, os, sys
import httpx
from openai import OpenAI

socket = os.environ.get("LMXD_ENDPOINT_SOCKET")
over = httpx.Client(transport=httpx.HTTPTransport(uds=socket)) if socket else None
client = OpenAI(http_client=over, max_retries=0, timeout=120)
question = "Tell me more of the sea, its ships and the towns on its shores, and say what you think of number {n}. " * 3
messages, found = [], []
for n in range(6):
    messages.append({"role": "user", "content": question.format(n=n)})
    asked = {"model": os.environ["LMXD_MODEL"], "messages": messages, "max_tokens": 24, "temperature": 0}
    if n % 2:
        parts = [*client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})]
        said = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        total = parts[-1].usage.total_tokens
    else:
        answer = client.chat.completions.create(**asked)
        said, total = answer.choices[0].message.content, answer.usage.total_tokens
    messages.append({"role": "assistant", "content": said})
    found.append([said, total])
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["unix", "tcp"])
def lmxd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, few_layers: Path) -> Iterator[Lmxd]:
    """Two models of the same file: one that grows from 256 to 1,024 tokens, and one that has them from the start."""
    static = {"path": str(few_layers), "context_length": 1024, "threads": 1}
    models = {"elastic": static | {"elastic": {"start": 256, "steps": [512]}}, "static": static}
    gpu, engine = {"device": "host", "max_memory_gb": 2}, {"endpoint": request.param}
    with Lmxd(tmp_path_factory.mktemp("following"), {"gpu": gpu, "engine": engine, "models": models}) as lmxd:
        yield lmxd


@pytest.fixture(autouse=True)
def anew(lmxd: Lmxd) -> None:
    """A lease takes an instance that runs and is large enough: each test begins with none."""
    with lmxd.client() as client:
        client.drain(now=True)
        lmxd.until(lambda: not client.instances().instances)
        client.drain(end=True)


def talk(lmxd: Lmxd, model: str) -> list[Any]:
    """(text, tokens of the whole) of each answer that a program under ``lmxctl run`` had, with OpenAI's client."""
    done = lmxd.lmxctl("run", model, "--", sys.executable, "-c", TALK)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def moves(lmxd: Lmxd) -> int:
    """The leases that the daemon's log says have moved."""
    return lmxd.log.read_text().count(" move l-")


@pytest.mark.timeout(300)
def test_a_program_crosses_two_steps_and_has_every_answer_of_a_static_run(lmxd: Lmxd) -> None:
    static, before = talk(lmxd, "static"), moves(lmxd)
    assert static[-1][1] > 512
    assert talk(lmxd, "elastic") == static
    assert moves(lmxd) - before == 2


def completed(lease: Granted, prompt: list[int]) -> Any:
    body = {"prompt": prompt, "n_predict": 8, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return post(lease, "/completion", body)


def test_a_client_that_blocks_follows_a_growth_that_another_asked_for(lmxd: Lmxd) -> None:
    prompt = [100 + n * 7 % 4000 for n in range(200)]
    with lmxd.client() as client, client.request("static") as lease:
        static = completed(lease, prompt)["tokens"]
        static += completed(lease, prompt + static)["tokens"]
    heard: list[str] = []
    with Client(lmxd.socket, lambda name, _: heard.append(name)) as client, client.request("elastic") as lease:
        first = completed(lease, prompt)["tokens"]
        grown = lmxd.lmxctl("grow", lease.lease, "--ctx", "400")
        assert "  context   512 of 1024 tokens\n" in grown.stdout, grown.stderr
        now = client.lease(lease.lease)
        assert (lease.ctx, now.ctx, now.lease, heard) == (256, 512, lease.lease, ["lmxd.moved"])
        second = completed(now, prompt + first)
        assert first + second["tokens"] == static
        assert second["timings"]["cache_n"] > 200
        now.release()


async def test_a_client_of_asyncio_follows_too(lmxd: Lmxd) -> None:
    moved = asyncio.Event()
    following = AsyncClient(lmxd.socket, lambda name, _: moved.set())
    async with following as client, await client.request("elastic") as lease:
        grown = await asyncio.to_thread(lmxd.json, "grow", lease.lease, "--ctx", "600")
        await asyncio.wait_for(moved.wait(), 10)
        now = client.lease(lease.lease)
        assert (now.instance, now.ctx, now.ctx_most) == (grown["instance"], 1024, 1024)
        assert (await asyncio.to_thread(completed, now, [1, 2, 3]))["tokens"]
        shown = next(i for i in (await client.instances()).instances if i.instance == now.instance)
        assert (shown.ctx, shown.ctx_most) == (1024, 1024)
        assert "1k/1k" in (await asyncio.to_thread(lmxd.lmxctl, "ps")).stdout


def test_a_question_that_is_longer_than_the_first_step_is_answered(lmxd: Lmxd) -> None:
    done = lmxd.lmxctl("ask", "elastic", "--max-tokens", "8", "Say one word of the sea and its ships. " * 40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
