"""The traces of bench/arena.py: clients of OpenAI's streaming API that know nothing but a URL."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from arena_managers import PATIENCE, Manager, Naive
from arena_models import Model

PROMPT = "Summarise the following notes for the team. " + "The quick brown fox jumps over the lazy dog. " * 30
CROWD_SLOTS, CROWD = 4, 8
HOT = 2


@dataclass(slots=True)
class Answer:
    """One request: when it was made, when its first token came and when it ended, in seconds of the trace."""

    client: str
    model: str
    asked: float
    first: float = 0.0
    ended: float = 0.0
    chunks: int = 0
    error: str = ""

    @property
    def waited(self) -> float:
        return self.first - self.asked


class Clients:
    """Asks one manager, and keeps every answer."""

    def __init__(
        self, session: aiohttp.ClientSession, manager: Manager, models: Sequence[Model], scale: Scale, seed: int
    ):
        self.session, self.manager, self.scale = session, manager, scale
        self.names = [m.name for m in models]
        self.rng = random.Random(seed)
        self.answers: list[Answer] = []
        self._begun = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._begun

    @property
    def over(self) -> bool:
        """Whether no new request is to be made."""
        return self.now >= self.scale.seconds

    async def ask(self, client: str, model: str, tokens: int) -> Answer:
        answer = Answer(client, model, self.now)
        self.answers.append(answer)
        try:
            await self._stream(answer, tokens)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer.error = f"{type(error).__name__} {error}"[:120]
        answer.ended = self.now
        if not answer.error and answer.chunks < tokens // 2:
            answer.error = f"cut after {answer.chunks} chunks"
        if answer.error:
            await asyncio.sleep(1)  # as clients do, so that an error is no busy loop
        return answer

    async def _stream(self, answer: Answer, tokens: int) -> None:
        body = {
            "model": answer.model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": tokens,
            "stream": True,
            "ignore_eos": True,
            "temperature": 0,
        }
        headers = {"Authorization": f"Bearer {self.manager.key}"}
        while not answer.error:
            url = self.manager.url(answer.model) + "/v1/chat/completions"
            try:
                async with self.session.post(url, json=body, headers=headers) as response:
                    if not self._loading(answer, response.status):
                        return await self._read(answer, response)
            except aiohttp.ClientConnectorError:
                if not self._loading(answer):
                    raise
            await asyncio.sleep(0.1)

    def _loading(self, answer: Answer, status: int = 503) -> bool:
        """Whether to ask again, since nobody else waits for a server that was started by hand."""
        if not isinstance(self.manager, Naive) or status != 503:
            return False
        if self.manager.died(answer.model):
            answer.error = "its server died"
        return True

    async def _read(self, answer: Answer, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            answer.error = f"{response.status} {(await response.text())[:100]}"
            return
        async for line in response.content:
            if not line.startswith(b"data:") or b"[DONE]" in line:
                continue
            if b'"error"' in line[:40]:
                answer.error = line.decode()[:120]
                return
            answer.first = answer.first or self.now
            answer.chunks += 1


@dataclass(frozen=True, slots=True)
class Scale:
    """``seconds`` for which clients go on asking; ``requests`` of a burst; ``swaps`` of an alternation."""

    seconds: float
    requests: int
    swaps: int


async def burst(clients: Clients) -> None:
    """So many requests at once, each for any of the models."""
    wanted = [clients.rng.choice(clients.names) for _ in range(clients.scale.requests)]
    await asyncio.gather(*(clients.ask(f"c{n}", name, 32) for n, name in enumerate(wanted)))


async def alone(clients: Clients) -> None:
    """The hot clients of ``rivals`` with nobody beside them."""
    await asyncio.gather(*(_hot(clients, n) for n in range(HOT)))


async def rivals(clients: Clients) -> None:
    """Two who never stop asking for one model, and one who every 5 s asks for another that does not fit beside it."""

    async def cold() -> None:
        while not clients.over:
            await asyncio.sleep(5)
            await clients.ask("cold", clients.names[1], 16)

    await asyncio.gather(*(_hot(clients, n) for n in range(HOT)), cold())


async def _hot(clients: Clients, number: int) -> None:
    while not clients.over:
        await clients.ask(f"hot{number}", clients.names[0], 48)


async def agents(clients: Clients) -> None:
    """Each its own model: three requests, then a pause."""

    async def agent(name: str, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(0, 6))
        while not clients.over:
            for _ in range(3):
                await clients.ask(name, name, 24)
            await asyncio.sleep(rng.uniform(4, 14))

    seeds = [random.Random(clients.rng.random()) for _ in clients.names]
    await asyncio.gather(*(agent(name, seed) for name, seed in zip(clients.names, seeds, strict=True)))


async def alternate(clients: Clients) -> None:
    """One who asks for the one model and the other in turn."""
    for number in range(clients.scale.swaps):
        if clients.now < 2 * clients.scale.seconds:
            await clients.ask("one", clients.names[number % 2], 8)


async def crowd(clients: Clients) -> None:
    """Eight who never stop asking for the one model, and eight for the other; each has four slots."""

    async def one(number: int) -> None:
        while not clients.over:
            await clients.ask(f"c{number}", clients.names[number % 2], 16)

    await asyncio.gather(*(one(n) for n in range(2 * CROWD)))


TRACES: dict[str, Callable[[Clients], Awaitable[None]]] = {
    "burst": burst,
    "alone": alone,
    "rivals": rivals,
    "agents": agents,
    "alternate": alternate,
    "crowd": crowd,
}
OF_RIVALS = frozenset({"alone", "rivals", "alternate", "crowd"})
"""Those that are about two models of which one fits at a time."""


async def play(trace: str, manager: Manager, models: Sequence[Model], scale: Scale, seed: int) -> list[Answer]:
    """Run one trace to its end. Every request has a connection of its own: large-model-proxy ties one to a model."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(session, manager, models, scale, seed)
        await TRACES[trace](clients)
        return clients.answers
