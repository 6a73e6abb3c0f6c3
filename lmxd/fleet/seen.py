"""Nodes as people are shown them: by their cards and last heartbeats. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from lmxd.fleet.choosing.table import SILENT, NodeTable
from lmxd.fleet.names import having
from lmxd.fleet.reports import DeviceRoom, Heartbeat, NodeCard


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenNode:
    """A node. ``beat``: its last heartbeat, ``silent``: seconds since that; both None if none came.

    ``unheard``: it belongs to the fleet, and that is all that is known: its card is empty.
    """

    name: str
    card: NodeCard
    beat: Heartbeat | None
    silent: float | None
    alive: bool
    unheard: bool = False

    @property
    def state(self) -> str:
        """In a word. One that is still believed, since nobody is heard, is silent all the same."""
        if self.unheard:
            return "unheard"
        if not self.alive or (self.silent or 0.0) > SILENT:
            return "silent"
        return "draining" if self.beat is not None and self.beat.draining else "up"

    @property
    def left(self) -> dict[str, int]:
        """Slots in use, by model, of those that have any: requests that run, and leases that are held."""
        running = self.beat.running if self.beat else ()
        return {x.model: x.slots - x.vacant for x in running if not x.loading and x.slots > x.vacant}

    @property
    def is_drained(self) -> bool:
        """Whether it drains, and nothing is left there."""
        return self.state == "draining" and self.beat is not None and not self.beat.running and not self.waiting

    @property
    def free(self) -> int:
        """Bytes that could be promised now, of all devices."""
        return sum(room.free for room in self._rooms)

    @property
    def idle(self) -> int:
        """Bytes of instances that nobody uses."""
        return sum(room.idle for room in self._rooms)

    @property
    def capacity(self) -> int:
        return sum(room.capacity for room in self._rooms)

    @property
    def slots(self) -> int:
        """Of instances that are ready."""
        return sum(x.slots for x in self.beat.running if not x.loading) if self.beat else 0

    @property
    def used(self) -> int:
        """Of these, those in use."""
        return sum(x.slots - x.vacant for x in self.beat.running if not x.loading) if self.beat else 0

    @property
    def waiting(self) -> int:
        return self.beat.waiting if self.beat else 0

    @property
    def eta(self) -> float | None:
        """Seconds until all that wait are expected to be served; None if nobody waits."""
        return self.beat.eta if self.beat and self.beat.waiting else None

    @property
    def _rooms(self) -> list[DeviceRoom]:
        """Its devices, without those whose bytes are of a pool, which is another of them."""
        return [room for room in self.beat.rooms if not room.pool] if self.beat else []

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "node": self.name,
            "state": self.state,
            "silent": self.silent,
            "card": None if self.unheard else msgspec.to_builtins(self.card),
            "heartbeat": msgspec.to_builtins(self.beat),
        }


def seen(table: NodeTable, now: float, members: Iterable[str] = ()) -> list[SeenNode]:
    """All nodes that have a card, and further ``members``, by name."""
    found = {
        name: SeenNode(
            name=name,
            card=node.card,
            beat=node.beat if node.beat.number else None,
            silent=max(0.0, now - node.spoke_at) if node.beat.number else None,
            alive=table.is_alive(name, now),
        )
        for name, node in table.nodes.items()
        if node.card is not None
    }
    for name in members:
        if name not in found:
            empty = NodeCard(node=name, address="-", version="-", started="-")
            found[name] = SeenNode(name=name, card=empty, beat=None, silent=None, alive=False, unheard=True)
    return sorted(found.values(), key=lambda node: _in_order(node.name))


def models_of(nodes: Iterable[SeenNode]) -> str:
    """The remedy where a model is named that none of the nodes has."""
    return having(offered.model for node in nodes for offered in node.card.models)


@lru_cache(4096)
def _in_order(name: str) -> tuple[str | int, ...]:
    """The order of names as people count: box2 before box10."""
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"([0-9]+)", name)))


@dataclass(kw_only=True, slots=True)
class RunningModel:
    """A model that is up or comes up anywhere. ``slots``: of those that are ready, of which ``used`` are in use."""

    model: str
    slots: int = 0
    used: int = 0
    ready: list[str]
    loading: list[str]


def running(nodes: Iterable[SeenNode]) -> list[RunningModel]:
    """The models of nodes that are alive, by name."""
    found: dict[str, RunningModel] = {}
    for node in nodes:
        for x in node.beat.running if node.beat is not None and node.alive else ():
            model = found.setdefault(x.model, RunningModel(model=x.model, ready=[], loading=[]))
            if x.loading:
                model.loading.append(node.name)
            else:
                model.ready.append(node.name)
                model.slots, model.used = model.slots + x.slots, model.used + x.slots - x.vacant
    return [found[name] for name in sorted(found)]
