"""The way of one request to a node: those that seem to serve it at once are tried, then it waits where that is least.

The table is a guess, and a node's answer the only commit: "no" and "later" are normal answers, after which another is
asked. Nothing of an answer has gone to the client until a node has begun one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from lmxd.fleet.choosing.prospects import Prospect, Standing
from lmxd.fleet.choosing.ranking import ranking
from lmxd.fleet.choosing.sessions import Sessions
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.gateway.asking import Asking, NodeAnswer, drop
from lmxd.fleet.gateway.doors import Away
from lmxd.fleet.gateway.metrics import FleetMetrics
from lmxd.fleet.gateway.nobody import nobody
from lmxd.fleet.gateway.places import Place, Places
from lmxd.fleet.gateway.refusals import NodeError
from lmxd.fleet.gateway.wanted import Wanted
from lmxd.gateway.leasing.progress import RequestProgress

TRIES: Final = 3
"""Nodes that are asked whether they serve a request at once."""
_TAKEN: Final = 0.25
"""Seconds without a refusal after which a node that was asked to serve at once does: it loads, or generates."""
Told: TypeAlias = Callable[[RequestProgress], None]
Refused: TypeAlias = dict[str, Away | NodeError]
"""Nodes that one request does not ask again, and why."""


class Finding:
    """Finds a node for each request. ``below(n)``: a number from 0 to n - 1 at random."""

    def __init__(
        self, table: NodeTable, asking: Asking, places: Places, metrics: FleetMetrics, below: Callable[[int], int]
    ) -> None:
        self._table, self._asking, self._places, self._metrics = table, asking, places, metrics
        self._below = below
        self._sessions = Sessions()

    async def answer(self, wanted: Wanted, told: Told) -> NodeAnswer:
        """A node's answer, which is no error and the caller's to end.

        LmxdError if there is none: a NodeError is the last that a node said.
        """
        refused: Refused = {}
        found = await self._at_once(wanted, refused)
        while found is None:
            found = await self._in_queue(wanted, told, refused)
        self._sessions.served(wanted.sought.session, found.exchange.node)
        self._metrics.found(self._asking.now() - wanted.since)
        return found

    def _ranked(self, wanted: Wanted, refused: Refused) -> list[Prospect]:
        home = self._sessions.home(wanted.sought.session)
        order = ranking(self._table, wanted.sought, self._asking.now(), self._below, home)
        return [prospect for prospect in order if prospect.node not in refused]

    async def _at_once(self, wanted: Wanted, refused: Refused) -> NodeAnswer | None:
        """The answer of a node that seems to have what is wanted, and has; None if none of them has."""
        full: set[str] = set()
        for _ in range(TRIES):
            order = [p for p in self._ranked(wanted, refused) if p.node not in full and p.standing < Standing.WAITS]
            if not order:
                break
            try:
                return await self._asking.ask(wanted, order[0], 0.0)
            except (Away, NodeError) as error:
                if isinstance(error, NodeError) and error.is_full:
                    full.add(error.node)  # for now: it may be waited for
                else:
                    _note(error, refused)
        return None

    async def _in_queue(self, wanted: Wanted, told: Told, refused: Refused) -> NodeAnswer | None:
        """The answer of the node where it waited; None if another is to be asked. LmxdError if there is no other."""
        order = self._ranked(wanted, refused)
        if not order:
            raise nobody(self._table, wanted.sought.model, refused, self._asking.now())
        prospect = order[0]
        told(RequestProgress(state="queued", eta=prospect.eta, instances=(prospect.node,)))
        try:
            with self._places.taken(wanted, prospect, self._asking.now()) as place:
                return await self._waited(wanted, place)
        except (Away, NodeError) as error:
            if isinstance(error, NodeError) and wanted.left(self._asking.now()) == 0:
                raise
            _note(error, refused)
        return None

    async def _waited(self, wanted: Wanted, place: Place) -> NodeAnswer:
        """The answer of the node where a request waits, or of one that turns out to be better. Raises as ``ask``."""
        loop = asyncio.get_running_loop()
        here = loop.create_task(self._asking.ask(wanted, place.prospect, wanted.left(self._asking.now())))
        there = taken = None
        try:
            while taken is None:
                await asyncio.wait((here, place.better), return_when=asyncio.FIRST_COMPLETED)
                if here.done():
                    taken = here
                    break
                there = loop.create_task(self._asking.ask(wanted, place.take(), 0.0))
                await asyncio.wait((here, there), timeout=_TAKEN, return_when=asyncio.FIRST_COMPLETED)
                if here.done() and here.exception() is None:
                    taken = here
                elif not there.done() or there.exception() is None:
                    drop(here)  # what waits there is given back before the better one is waited for
                    self._metrics.moved()
                    taken = there
            return await taken
        finally:
            for task in (here, there):
                if task is not None and task is not taken:
                    drop(task)


def _note(error: Away | NodeError, refused: Refused) -> None:
    """Ask a node no more. What no other would do better is raised."""
    if isinstance(error, NodeError) and not error.elsewhere:
        raise error
    refused[error.node] = error
