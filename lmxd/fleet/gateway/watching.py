"""Nodes that have a request of ours and say nothing: a frozen box closes no connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from lmxd.errors import LmxdError
from lmxd.fleet.reports import NodeCard

QUIET_AFTER: Final = 1.0
"""Seconds without a byte after which it is asked whether a node is there."""
ANSWERS_IN: Final = 2.5
"""Seconds that it has to answer. With both, and a look, a dead node is waited for less than 5 s."""
_LOOK: Final = 0.5
"""Seconds between two looks at the requests that a node has."""
_SLEPT: Final = 1.0
"""Seconds by which a timer is late only if this process did not run: it was frozen, or had no core."""


class WatchedExchange(Protocol):
    """A request that a node has. ``heard``: when something of its answer came last, by the loop's clock."""

    heard: float

    @property
    def is_over(self) -> bool:
        """Nobody waits for its answer any longer, or for the rest of that."""

    def fall_silent(self) -> None:
        """End it: its node is as if frozen."""


class Watch:
    """Asks nodes that are quiet for a sign of life. ``probe``: returns with that, or raises LmxdError."""

    def __init__(self, probe: Callable[[NodeCard], Awaitable[object]]) -> None:
        self._probe = probe
        self._over: dict[str, list[WatchedExchange]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def over(self, card: NodeCard, exchange: WatchedExchange) -> None:
        """Watch a node until it has answered a request."""
        self._over.setdefault(card.node, []).append(exchange)
        if card.node not in self._tasks:
            self._tasks[card.node] = asyncio.get_running_loop().create_task(self._keep(card))

    async def _keep(self, card: NodeCard) -> None:
        """Look at the requests of one node until it has had none for a moment."""
        loop, name = asyncio.get_running_loop(), card.node
        try:
            while True:
                await asyncio.sleep(_LOOK)
                watched = self._over[name] = [each for each in self._over[name] if not each.is_over]
                if not watched:
                    return
                asked_at = loop.time()
                if any(asked_at - each.heard >= QUIET_AFTER for each in watched) and not await self._lives(card):
                    for each in self._over[name]:
                        if each.heard <= asked_at and not each.is_over:
                            each.fall_silent()
        finally:
            del self._tasks[name], self._over[name]

    async def _lives(self, card: NodeCard) -> bool:
        """Whether a node answers. Who did not run meanwhile heard nothing, and asks again."""
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            try:
                async with asyncio.timeout(ANSWERS_IN):
                    await self._probe(card)
            except LmxdError:
                return False
            except TimeoutError:
                if loop.time() - asked_at < ANSWERS_IN + _SLEPT:
                    return False
            else:
                return True
