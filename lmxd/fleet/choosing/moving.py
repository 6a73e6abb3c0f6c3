"""Requests that wait at one node while another could serve them sooner."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.table import NodeTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """A request that waits at ``node``. ``since``: when it first asked anywhere; ``due``: when it should be served."""

    id: str
    sought: Sought
    node: str
    since: float
    due: float


class Waiters:
    """All requests of a gateway that wait, by model, in order of arrival."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[str, Waiter]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_model.values()))

    def add(self, waiter: Waiter) -> None:
        """Note where a request waits; it may have waited elsewhere before."""
        self._by_model.setdefault(waiter.sought.model, {})[waiter.id] = waiter

    def remove(self, waiter: Waiter) -> None:
        """It is answered, or has left."""
        mine = self._by_model.get(waiter.sought.model, {})
        mine.pop(waiter.id, None)
        if not mine:
            self._by_model.pop(waiter.sought.model, None)

    def moves(self, table: NodeTable, name: str, now: float) -> list[tuple[Waiter, Prospect]]:
        """The waiters that should ask node ``name`` too, whose heartbeat was just heard: the longest waiting first.

        A node that should have served one by now is not believed any more. The table is lowered by each. A waiter keeps
        the place that it has until the other node has said yes.
        """
        found: list[tuple[Waiter, Prospect]] = []
        if not table.is_alive(name, now) or (node := table.nodes[name]).beat.draining:
            return found
        models = [m for m in self._by_model if m in node.offered and node.bound(m) < Standing.WAITS]
        wanted = [w for model in models for w in self._by_model[model].values() if w.node != name]
        for waiter in sorted(wanted, key=lambda each: each.since):
            prospect = node.view.prospect(name, node.offered[waiter.sought.model], waiter.sought)
            sooner = waiter.due <= now or now + prospect.eta < waiter.due
            if prospect.standing < Standing.WAITS and sooner:
                table.asked(waiter.sought, prospect, now)
                found.append((waiter, prospect))
        return found
