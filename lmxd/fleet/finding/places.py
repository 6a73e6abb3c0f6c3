"""Where requests wait, and what becomes better meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

from lmxd.fleet.choosing.moving import Waiter, Waiters
from lmxd.fleet.choosing.prospects import Prospect
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.finding.wanted import WantedAnswer


class QueuePlace:
    """The place of one request in the queue of a node. ``better``: done when another node seems to serve it at once.

    It is None if what was known of the node was old, so that it is worth a look whether another one is better.
    """

    def __init__(self, prospect: Prospect) -> None:
        self.prospect = prospect
        self.better: asyncio.Future[Prospect | None] = asyncio.get_running_loop().create_future()

    def tell(self, prospect: Prospect | None) -> None:
        """Another node seems to; the one that was told first is asked first."""
        if not self.better.done():
            self.better.set_result(prospect)

    def take(self) -> Prospect | None:
        """The better node that was told; from now on another may be."""
        found, self.better = self.better.result(), asyncio.get_running_loop().create_future()
        return found


class QueuePlaces:
    """The places of all requests that wait."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._waiters = Waiters()
        self._places: dict[str, QueuePlace] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    @contextlib.contextmanager
    def taken(self, wanted: WantedAnswer, prospect: Prospect, now: float) -> Iterator[QueuePlace]:
        """A place at a node, until it is served or goes elsewhere."""
        name = str(next(self._numbers))
        due = now + prospect.eta
        waiter = Waiter(id=name, sought=wanted.sought, node=prospect.node, since=wanted.since, due=due)
        place = self._places[name] = QueuePlace(prospect)
        self._waiters.add(waiter)
        try:
            yield place
        finally:
            self._waiters.remove(waiter)
            del self._places[name]

    def leave(self, node: str) -> None:
        """Tell those that wait at a node that all it said of itself is old."""
        for place in self._places.values():
            if place.prospect.node == node:
                place.tell(None)

    def heard(self, node: str, now: float) -> None:
        """A heartbeat of a node came: tell those for which it is the better one."""
        for waiter, prospect in self._waiters.moves(self._table, node, now):
            self._places[waiter.id].tell(prospect)
