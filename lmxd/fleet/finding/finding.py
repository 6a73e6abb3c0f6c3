"""The way of one request to a node: those that seem to serve it at once are tried, then it waits where that is least.

The table is a guess, and a node's answer the only commit: "no" and "later" are normal answers, after which another is
asked. Nothing of an answer has gone to the client until a node has begun one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol, TypeAlias, TypeVar

from lmxd.fleet.choosing.prospects import Prospect, Standing
from lmxd.fleet.choosing.ranking import ranking
from lmxd.fleet.choosing.sessions import Sessions
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.errors import Away, NodeRefusal
from lmxd.fleet.finding.nobody import nobody
from lmxd.fleet.finding.places import QueuePlace, QueuePlaces
from lmxd.fleet.finding.wanted import WantedAnswer
from lmxd.gateway.leasing.progress import RequestProgress

TRIES: Final = 3
"""Nodes that are asked whether they serve a request at once."""
_TAKEN: Final = 0.25
"""Seconds without a refusal after which a node that was asked to serve at once does: it loads, or generates."""
TellStanding: TypeAlias = Callable[[RequestProgress], None]
Refused: TypeAlias = dict[str, Away | NodeRefusal]
"""Nodes that one request does not ask again, and why."""


class FromNode(Protocol):
    """An answer. ``node``: whose."""

    @property
    def node(self) -> str: ...


AnswerT = TypeVar("AnswerT", bound=FromNode)


class Asker(Protocol[AnswerT]):
    """Asks nodes for one request."""

    async def ask(self, prospect: Prospect, wait: float | None) -> AnswerT:
        """A node's answer that is no error. ``wait``: the most seconds in its queue. Raises Away, or NodeRefusal."""

    def drop(self, asked: asyncio.Task[AnswerT]) -> None:
        """Take no answer of what was asked: it leaves the queue there, or is ended."""


class FindingFigures(Protocol):
    """Counts for metrics how requests were found a node."""

    def found(self, seconds: float) -> None: ...

    def moved(self) -> None: ...


class Uncounted:
    """Counts nothing, where there are no metrics."""

    def found(self, seconds: float) -> None:
        pass

    def moved(self) -> None:
        pass


class Finding:
    """Finds a node for each request. ``below(n)``: a number from 0 to n - 1 at random; ``now``: the table's clock."""

    def __init__(
        self,
        table: NodeTable,
        places: QueuePlaces,
        metrics: FindingFigures,
        below: Callable[[int], int],
        now: Callable[[], float],
    ) -> None:
        self._table, self._places, self._metrics = table, places, metrics
        self._below, self.now = below, now
        self._sessions = Sessions()

    async def answer(self, wanted: WantedAnswer, asker: Asker[AnswerT], told: TellStanding) -> AnswerT:
        """A node's answer, which is no error and the caller's to end.

        LmxdError if there is none: a NodeRefusal is the last that a node said.
        """
        refused: Refused = {}
        found = await self._at_once(wanted, asker, refused)
        while found is None:
            found = await self._in_queue(wanted, asker, told, refused)
        wanted.asked(found.node, self.now())
        self._sessions.served(wanted.sought.session, found.node)
        self._metrics.found(self.now() - wanted.since)
        return found

    def _ranked(self, wanted: WantedAnswer, besides: Collection[str]) -> list[Prospect]:
        home = self._sessions.home(wanted.sought.session)
        return ranking(self._table, wanted.sought, self.now(), self._below, home, besides)

    async def _at_once(self, wanted: WantedAnswer, asker: Asker[AnswerT], refused: Refused) -> AnswerT | None:
        """The answer of a node that seems to have what is wanted, and has; None if none of them has."""
        full: set[str] = set()
        for _ in range(TRIES):
            order = self._ranked(wanted, full | refused.keys())
            if not order or order[0].standing >= Standing.WAITS:
                break
            try:
                wanted.asked(order[0].node, self.now())
                return await asker.ask(order[0], 0.0)
            except (Away, NodeRefusal) as error:
                if isinstance(error, NodeRefusal) and error.is_full:
                    full.add(error.node)  # for now: it may be waited for
                else:
                    _note(error, refused)
        return None

    async def _in_queue(
        self, wanted: WantedAnswer, asker: Asker[AnswerT], told: TellStanding, refused: Refused
    ) -> AnswerT | None:
        """The answer of the node where it waited; None if another is to be asked. LmxdError if there is no other."""
        order = self._ranked(wanted, refused)
        if not order:
            raise nobody(self._table, wanted.sought.model, refused, self.now())
        prospect = order[0]
        wanted.waits_at(prospect.node, self.now())
        told(RequestProgress(state="queued", eta=prospect.eta, instances=(prospect.node,)))
        try:
            with self._places.taken(wanted, prospect, self.now()) as place:
                return await self._waited(wanted, asker, place, refused)
        except (Away, NodeRefusal) as error:
            if isinstance(error, NodeRefusal) and wanted.left(self.now()) == 0:
                raise
            _note(error, refused)
        return None

    async def _waited(
        self, wanted: WantedAnswer, asker: Asker[AnswerT], place: QueuePlace, refused: Refused
    ) -> AnswerT | None:
        """The answer of the node where a request waits, or of one that turns out to be better. Raises as ``ask``.

        None if that node is not believed any more, and there is another one.
        """
        loop = asyncio.get_running_loop()
        here = loop.create_task(asker.ask(place.prospect, wanted.left(self.now())))
        there = taken = None
        try:
            while taken is None:
                await asyncio.wait((here, place.better), return_when=asyncio.FIRST_COMPLETED)
                if here.done():
                    taken = here
                    break
                better = place.take()
                if better is None:
                    if self._ranked(wanted, {place.prospect.node, *refused}):
                        self._metrics.moved()
                        return None
                    continue
                there = loop.create_task(asker.ask(better, 0.0))
                await asyncio.wait((here, there), timeout=_TAKEN, return_when=asyncio.FIRST_COMPLETED)
                if here.done() and here.exception() is None:
                    taken = here
                elif not there.done() or there.exception() is None:
                    asker.drop(here)  # what waits there is given back before the better one is waited for
                    self._metrics.moved()
                    taken = there
            return await taken
        finally:
            for task in (here, there):
                if task is not None and task is not taken:
                    asker.drop(task)


def _note(error: Away | NodeRefusal, refused: Refused) -> None:
    """Ask a node no more. What no other would do better is raised."""
    if isinstance(error, NodeRefusal) and not error.elsewhere:
        raise error
    refused[error.node] = error
