"""Nodes that say nothing, as a gateway sees them that was away itself."""

from __future__ import annotations

import asyncio

import pytest
from waiting import until

from fleet.reported import card
from lmxd.fleet.gateway.watching import QUIET_AFTER, Watch
from lmxd.fleet.reports import NodeCard


class PlayedExchange:
    """A request that has been without an answer for so long that its node is asked."""

    def __init__(self) -> None:
        self.heard = asyncio.get_running_loop().time() - QUIET_AFTER
        self.is_over = self.silent = False

    def fall_silent(self) -> None:
        self.silent = self.is_over = True


async def test_a_gateway_that_was_frozen_while_it_asked_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    clock, frozen, asked = loop.time, [0.0], []
    monkeypatch.setattr(loop, "time", lambda: clock() + frozen[0])

    async def probe(node: NodeCard) -> None:
        asked.append(node.node)
        if len(asked) == 1:
            frozen[0] += 60
            await asyncio.Event().wait()

    exchange = PlayedExchange()
    Watch(probe).over(card("n1", {"a": 1}), exchange)
    await until(lambda: len(asked) > 1 or exchange.silent)
    assert (asked[:2], exchange.silent) == (["n1", "n1"], False)
    exchange.is_over = True
