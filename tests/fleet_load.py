"""Clients of a fleet's gateway that ask without end, and what each of their requests came to."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from waiting import GENEROUS, PAUSE

from lmxd.fleet.names import ANSWERED_BY

_CONVERSATION = 3
"""Requests of one conversation."""


@dataclass
class Outcome:
    """One request. ``first``: seconds to the first byte of its answer; ``whole``: all of that came, and is no error."""

    client: int
    begun: float
    stream: bool
    status: int = 0
    first: float = 0.0
    whole: bool = False
    node: str = ""
    said: str = ""


class FleetLoad:
    """``clients`` ask for ``model`` one after the other, a stream or a whole answer in turn.

    Every third request begins a conversation: each stays at its node, so that a few of them without end might leave out
    a node for ever.
    """

    def __init__(self, url: str, key: str, *, model: str = "m", clients: int = 6, tokens: int = 20) -> None:
        self._url, self._key, self._model, self._tokens = url, key, model, tokens
        self._count = clients
        self.outcomes: list[Outcome] = []
        """Requests that are over."""
        self._ends = False

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Ask for as long as the block lasts; behind it, each request that was begun is over."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._client(number))
            try:
                yield
            finally:
                self._ends = True

    async def _client(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=GENEROUS) as client:
            turn = number
            while not self._ends:
                turn += 1
                await self._ask(client, number, f"client {number}, {turn // _CONVERSATION}", stream=turn % 2 == 0)

    def each_has(self, count: int, since: float) -> bool:
        """Every client has so many whole answers to what it asked since that time."""
        seen = Counter(each.client for each in self.outcomes if each.whole and each.begun >= since)
        return all(seen[number] >= count for number in range(self._count))

    def each_is_served_by(self, nodes: Iterable[str], since: float = 0.0) -> bool:
        """Each of the nodes has given two whole answers to what was asked since that time."""
        seen = Counter(each.node for each in self.outcomes if each.whole and each.begun >= since)
        return all(seen[name] >= 2 for name in nodes)

    def broken(self) -> list[Outcome]:
        """The requests without a whole answer."""
        return [each for each in self.outcomes if not each.whole]

    def shown(self) -> str:
        """What has come of the requests so far, for an error of a test."""
        by_node = Counter((each.node, each.status, each.whole) for each in self.outcomes)
        return f"{dict(by_node)}; the last: {self.outcomes[-3:]}"

    async def _ask(self, client: httpx.AsyncClient, number: int, text: str, *, stream: bool) -> None:
        message = {"role": "user", "content": text}
        body = {"model": self._model, "messages": [message], "max_tokens": self._tokens}
        found = Outcome(number, time.monotonic(), stream)
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body | {"stream": stream}) as answer:
                found.status, found.node = answer.status_code, answer.headers.get(ANSWERED_BY, "")
                said = ""
                async for piece in answer.aiter_text():
                    if not said.strip("\n") or said.startswith(":"):
                        found.first = time.monotonic() - found.begun
                    said += piece
            found.whole = '"finish_reason": "stop"' in said if stream else "choices" in json.loads(said)
            found.said = said[-300:]
        except (httpx.TransportError, ValueError) as error:
            found.said = repr(error)
        self.outcomes.append(found)
        if not found.whole:
            await asyncio.sleep(PAUSE)  # as a client does that asks again
