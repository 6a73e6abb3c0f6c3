"""nginx before the gateway, as it is by default: it speaks HTTP/1.0 and collects answers; also at a path below."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import ollama
import openai
import pytest
from free_ports import free_ports
from gateway.front import Front, opened, read_until
from gateway.test_serving import house
from house import model

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="there is no nginx here")
TURN: Any = [{"role": "user", "content": "x"}]
HTTP = """
daemon off; pid {place}/pid; error_log {place}/error.log; {user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {gateway}; }}
        location /llm/ {{ proxy_pass {gateway}/; }}
    }}
}}
"""


@asynccontextmanager
async def behind_nginx(tmp_path: Path, front: Front) -> AsyncIterator[str]:
    """The URL of an nginx before a gateway."""
    assert NGINX is not None
    place = tmp_path / "nginx"
    place.mkdir()
    port = free_ports(1)
    written = HTTP.format(place=place, port=port, gateway=front.url, user="user root;" if os.geteuid() == 0 else "")
    (place / "nginx.conf").write_text(written)
    with subprocess.Popen([NGINX, "-e", f"{place}/error.log", "-p", place, "-c", "nginx.conf"]) as process:
        await front.until(lambda: reachable(port))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def reachable(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("below", ["", "/llm"])
async def test_clients_are_served_behind_it(tmp_path: Path, below: str) -> None:
    async with opened(house(tmp_path)) as front, behind_nginx(tmp_path, front) as url:
        base = url + below
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=front.key, max_retries=0) as gpt:
            assert [x.id async for x in gpt.models.list()] == ["a", "b"]
            said = await gpt.chat.completions.create(model="a", messages=TURN)
            assert (said.choices[0].message.content or "").startswith("fake ")
            chunks = [x async for x in await gpt.chat.completions.create(model="a", messages=TURN, stream=True)]
            assert "".join(x.choices[0].delta.content or "" for x in chunks if x.choices) == "x" * 16
            with pytest.raises(openai.NotFoundError, match="there is no model 'none'"):
                await gpt.chat.completions.create(model="none", messages=TURN, stream=True)
        client = ollama.AsyncClient(host=base, headers=front.headers())
        parts = [x async for x in await client.chat("a", TURN, stream=True)]
        assert "".join(x.message.content or "" for x in parts) == "x" * 16
        async with aiohttp.ClientSession() as session:
            for path in ("/v1/models", "/api/tags", "/api/version", "/", "/health", "/metrics", "/v1/models/a"):
                async with session.head(base + path, headers=front.headers()) as answer:
                    assert (answer.status, await answer.read()) == (200, b"")
            async with session.get(f"{base}/v1/models") as answer:
                assert answer.status == 401


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/responses"])
async def test_a_token_comes_before_the_next_is_made(tmp_path: Path, path: str) -> None:
    """The second one would take an hour."""
    model(tmp_path, "a", token_seconds=3600)
    body = {"model": "a", "messages": TURN, "stream": True}
    async with (
        opened(house(tmp_path)) as front,
        behind_nginx(tmp_path, front) as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(url + path, json=body, headers=front.headers()) as answer:
            assert '"x"' in await read_until(answer, "content")
        await front.until(lambda: not front.house.state.leases)


async def test_who_waits_is_told_so_and_served_at_last(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.02)
    asked = {"model": "b", "messages": TURN, "stream": True}
    async with (
        opened(house(tmp_path)) as front,
        behind_nginx(tmp_path, front) as url,
        aiohttp.ClientSession() as session,
    ):
        async with front.stream("a", 10**6) as first:
            await read_until(first, "data:")
            async with session.post(f"{url}/v1/chat/completions", json=asked, headers=front.headers()) as second:
                assert second.status == 200
                text = await read_until(second, ": queued")
                first.close()
                text += (await second.read()).decode()
        lines = [x for x in text.splitlines() if x]
        assert all(x.startswith((": ", "data: ")) for x in lines), "sizes of chunks are among the events"
        told = [json.loads(x.removeprefix("data: ")) for x in lines if x.startswith("data: {")]
        assert "".join(x["choices"][0]["delta"]["content"] for x in told if x["choices"]) == "x" * 16


async def test_an_error_after_a_wait_is_one_for_each_api(tmp_path: Path) -> None:
    model(tmp_path, "a", token_seconds=0.02)
    late = {"Prefer": "wait=2"}
    async with (
        opened(house(tmp_path)) as front,
        behind_nginx(tmp_path, front) as url,
        front.stream("a", 10**6) as first,
    ):
        await read_until(first, "data:")
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=front.key, max_retries=0) as gpt:
            stream = await gpt.chat.completions.create(model="b", messages=TURN, stream=True, extra_headers=late)
            with pytest.raises(openai.APIError, match="waited"):
                [_ async for _ in stream]
            with pytest.raises(openai.RateLimitError):
                await gpt.chat.completions.create(model="b", messages=TURN, extra_headers={"Prefer": "wait=0"})
        client = ollama.AsyncClient(host=url, headers=front.headers(Prefer="wait=2"))
        with pytest.raises(ollama.ResponseError, match="waited"):
            [_ async for _ in await client.chat("b", TURN, stream=True)]
