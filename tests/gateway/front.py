"""A gateway in the test's own process, over a ``House``."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
from house import House

from lmxd.config import keys
from lmxd.config.gateway import GatewayConfig
from lmxd.gateway.app import BOARD, runner
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.gateway.requests.authentication import Authentication
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen


class Front:
    """``key`` is a user's, ``admin`` an administrator's."""

    def __init__(
        self,
        house: House,
        *,
        tls: ssl.SSLContext | None = None,
        connections: Connections | None = None,
        **settings: Any,
    ) -> None:
        path = house.directory / "keys"
        self.key, self.admin = keys.add(path, "user", admin=False), keys.add(path, "root", admin=True)
        self.config = GatewayConfig(**{"listen": "127.0.0.1:1", "keys_file": path} | settings)
        self.house = house
        self.connections = Connections(strangers=1024, known=1024) if connections is None else connections
        self.tls = tls

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Front]:
        config = self.config
        async with Leases(self.house.where.socket, instances=config.instances) as self.leases:
            self.authentication = Authentication(config)
            self.pulls = Pulls(self.house.config_path, self.house.where.socket, user=True)
            self.running = running = runner(config, self.leases, self.authentication, self.pulls)
            await running.setup()
            await listen(running, "gateway.listen", "127.0.0.1:0", self.connections, tls=self.tls)
            self.board = running.app[BOARD]
            self.port: int = running.addresses[0][1]
            self.url = f"http://127.0.0.1:{self.port}"
            try:
                async with aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0)) as self.session:
                    yield self
            finally:
                await running.cleanup()

    def headers(self, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", **more}

    async def ask(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> SimpleNamespace:
        """A whole answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(method, path, data=data, headers=self.headers(**headers)) as answer:
            return SimpleNamespace(
                status=answer.status, text=await answer.text(), headers=answer.headers, json=answer.json
            )

    async def chat(self, model: str, **more: Any) -> SimpleNamespace:
        return await self.ask("/v1/chat/completions", {"model": model, "messages": [], **more})

    def stream(self, model: str, tokens: int = 16, **headers: str) -> Any:
        body = {"model": model, "messages": [], "stream": True, "max_tokens": tokens}
        return self.session.post("/v1/chat/completions", json=body, headers=self.headers(**headers))

    async def until(self, holds: Any) -> None:
        await self.house.until(holds)


@asynccontextmanager
async def opened(house: House, **settings: Any) -> AsyncIterator[Front]:
    async with house.open(), Front(house, **settings).open() as front:
        yield front


async def read_until(answer: aiohttp.ClientResponse, word: str) -> str:
    """Lines of a stream, up to the one that holds ``word``."""
    text = ""
    while word not in text:
        line = await asyncio.wait_for(answer.content.readline(), 10)
        assert line, text
        text += line.decode()
    return text
