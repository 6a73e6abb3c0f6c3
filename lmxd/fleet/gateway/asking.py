"""One node asked for one request, and what the table learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from lmxd.fleet.choosing.prospects import Prospect
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.choosing.view import Attempt
from lmxd.fleet.gateway.doors import Away, DoorExchange, Doors
from lmxd.fleet.gateway.metrics import FleetMetrics
from lmxd.fleet.gateway.refusals import NodeError, refusal
from lmxd.fleet.gateway.wanted import Wanted
from lmxd.gateway.http.http1 import Head

_ERRORS: Final = 400


class NodeAnswer(NamedTuple):
    """A node's answer to what it was asked; its head has come, and is no error."""

    exchange: DoorExchange
    head: Head
    asked: Attempt


class Asking:
    """Asks nodes. ``now``: the clock of the table."""

    def __init__(self, table: NodeTable, doors: Doors, metrics: FleetMetrics, now: Callable[[], float]) -> None:
        self._table, self._doors, self._metrics = table, doors, metrics
        self.now = now

    async def ask(self, wanted: Wanted, prospect: Prospect, wait: float | None) -> NodeAnswer:
        """A node's answer that is no error. ``wait``: the most seconds in its queue. Raises Away, or NodeError."""
        name = prospect.node
        if (card := self._table.nodes[name].card) is None:
            raise Away(name, "it has left")
        asked = self._table.asked(wanted.sought, prospect, self.now())
        try:
            exchange, head = await self._doors.ask(card, wanted.call, *wanted.lines(self.now(), wait))
            self._table.worked(name)
            if head.status >= _ERRORS:
                raise await refusal(name, exchange, head)
        except Away:
            self._table.failed(name, self.now())
            self._doors.forget(name)
            self._metrics.tried(name, "away")
            raise
        except NodeError as error:
            self._metrics.tried(name, "full" if error.is_full else "refused")
            if error.is_full:
                self._table.refused(wanted.sought, prospect, self.now())
            raise
        self._metrics.tried(name, "served")
        return NodeAnswer(exchange, head, asked)

    def end(self, answer: NodeAnswer) -> None:
        """Nothing more is taken of an answer: all of it has come, or it is cut."""
        answer.exchange.close()
        self._table.ended(answer.asked, self.now())


def drop(asked: asyncio.Task[NodeAnswer]) -> None:
    """Take no answer of what was asked: it leaves the queue there, or is ended."""
    asked.cancel()
    asked.add_done_callback(_close)


def _close(asked: asyncio.Task[NodeAnswer]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        asked.result().exchange.close()
