"""Answers of ollama's API that are waited for: their head comes early, and then spaces, which no JSON minds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import ollama
import pytest
from aiohttp import web
from house import model

from gateway.front import opened
from gateway.test_serving import house
from lmxd.errors import LmxdError
from lmxd.gateway.ollama.lines import LineReply

Turn = asyncio.Future[dict[str, str]]


@asynccontextmanager
async def answering(*, streams: bool, patience: float) -> AsyncIterator[tuple[str, Turn]]:
    """The address of a server, and its answer: what that is set to is sent."""
    turn: Turn = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = LineReply(request, streams=streams, patience=patience)
        async with reply.waiting():
            try:
                await reply.send(await turn)
                return await reply.end()
            except LmxdError as error:
                return await reply.fail(error)

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    running = web.AppRunner(app)
    await running.setup()
    await web.TCPSite(running, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{running.addresses[0][1]}/", turn
    finally:
        await running.cleanup()


@asynccontextmanager
async def asked(url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        yield answer


@pytest.mark.parametrize("streams", [True, False])
async def test_a_head_comes_before_the_answer(streams: bool) -> None:
    async with answering(streams=streams, patience=0) as (url, turn), asked(url) as answer:
        assert answer.status == 200
        assert await answer.content.readexactly(1) == b" "
        turn.set_result({"done": "yes"})
        assert json.loads(await answer.text()) == {"done": "yes"}


async def test_an_error_after_the_head_is_the_last_line_of_a_stream() -> None:
    async with answering(streams=True, patience=0) as (url, turn), asked(url) as answer:
        await answer.content.readexactly(1)
        turn.set_exception(LmxdError("never_fits", "too large", "ask for less"))
        assert json.loads(await answer.text()) == {"error": "too large (ask for less)"}


async def test_an_error_after_the_head_of_one_object_is_no_success() -> None:
    async with answering(streams=False, patience=0) as (url, turn), asked(url) as answer:
        await answer.content.readexactly(1)
        turn.set_exception(LmxdError("never_fits", "too large", "ask for less"))
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_an_answer_that_comes_soon_has_the_status_of_its_error() -> None:
    async with answering(streams=True, patience=60) as (url, turn):
        turn.set_exception(LmxdError("never_fits", "too large", "ask for less"))
        async with asked(url) as answer:
            assert answer.status == 500, "raised, for the guard to answer"


async def test_clients_read_what_was_waited_for(tmp_path: Path) -> None:
    model(tmp_path, "a", load_seconds=1.5)
    async with opened(house(tmp_path)) as front:
        client = ollama.AsyncClient(host=front.url, headers=front.headers())
        parts = [x async for x in await client.generate(model="a", prompt="x", stream=True)]
        assert "".join(x.response or "" for x in parts) == "x" * 16
