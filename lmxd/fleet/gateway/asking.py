"""Doors asked for one request of a client, and what the table learns of it."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final, NamedTuple

from lmxd.fleet import names
from lmxd.fleet.choosing.prospects import Prospect
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.choosing.view import Attempt
from lmxd.fleet.finding.errors import Away
from lmxd.fleet.finding.finding import Finding, TellStanding
from lmxd.fleet.finding.quotas import FleetQuotas
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.fleet.gateway.doors import DoorExchange, Doors
from lmxd.fleet.gateway.metrics import FleetMetrics
from lmxd.fleet.gateway.refusals import NodeError, refusal
from lmxd.gateway.http.http1 import Head
from lmxd.gateway.http.upstream_call import UpstreamCall

_ERRORS: Final = 400
_LEAST: Final = 1e-9
"""The least weight that is told."""


class NodeAnswer(NamedTuple):
    """A node's answer to what it was asked; its head has come, and is no error."""

    exchange: DoorExchange
    head: Head
    asked: Attempt

    @property
    def node(self) -> str:
        return self.exchange.node


class Asking:
    """Has requests answered by the doors of nodes."""

    def __init__(
        self, table: NodeTable, doors: Doors, finding: Finding, metrics: FleetMetrics, quotas: FleetQuotas
    ) -> None:
        self.table, self.doors, self.metrics, self.quotas = table, doors, metrics, quotas
        self._finding = finding
        self.now = finding.now

    async def answer(self, wanted: WantedAnswer, call: UpstreamCall, told: TellStanding) -> NodeAnswer:
        """A node's answer, which the caller is to ``end``. LmxdError if there is none."""
        return await self._finding.answer(wanted, _DoorAsker(self, wanted, call), told)

    def end(self, answer: NodeAnswer) -> None:
        """Nothing more is taken of an answer: all of it has come, or it is cut."""
        answer.exchange.close()
        self.table.ended(answer.asked, self.now())


class _DoorAsker:
    """Asks for one request."""

    def __init__(self, asking: Asking, wanted: WantedAnswer, call: UpstreamCall) -> None:
        self._asking, self._wanted, self._call = asking, wanted, call

    async def ask(self, prospect: Prospect, wait: float | None) -> NodeAnswer:
        name, table, metrics, now = prospect.node, self._asking.table, self._asking.metrics, self._asking.now
        if (card := table.nodes[name].card) is None:
            raise Away(name, "it has left")
        asked = table.asked(self._wanted.sought, prospect, now())
        try:
            exchange, head = await self._asking.doors.ask(card, self._call, *self._lines(name, now(), wait))
            table.worked(name)
            if head.status >= _ERRORS:
                raise await refusal(name, exchange, head)
        except Away:
            table.failed(name, now())
            self._asking.doors.forget(name)
            metrics.tried(name, "away")
            raise
        except NodeError as error:
            metrics.tried(name, "full" if error.is_full else "refused")
            if error.is_full:
                table.refused(self._wanted.sought, prospect, now())
            raise
        metrics.tried(name, "served")
        return NodeAnswer(exchange, head, asked)

    def _lines(self, node: str, now: float, wait: float | None) -> list[str]:
        """The lines of a request's head by which a node knows for whom it is, and how long it may wait there."""
        user = self._wanted.user
        said = self._asking.quotas.stated(user, node, now - self._wanted.since)
        lines = [f"{names.WAITED}: {said.waited:.3f}"]
        lines += [] if user is None else [f"{names.USER}: {user}"]
        lines += [] if said.used_elsewhere is None else [f"{names.USED}: {said.used_elsewhere:.0f}"]
        lines += [] if said.weight is None else [f"{names.WEIGHT}: {max(said.weight, _LEAST):.9f}"]
        return [*lines] if wait is None else [*lines, f"Prefer: wait={ceil(wait)}"]

    def drop(self, asked: asyncio.Task[NodeAnswer]) -> None:
        asked.cancel()
        asked.add_done_callback(_close)


def _close(asked: asyncio.Task[NodeAnswer]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        asked.result().exchange.close()
