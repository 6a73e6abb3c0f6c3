"""One node as a gateway sees it now: its last heartbeat, less what was asked of the node since."""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.reports import DeviceRoom, Heartbeat, Offered

HOST: Final = "host"
"""The device that is RAM. A model that fits on a GPU is not placed there instead."""
JOINED: Final = 16
"""Requests that wait at a node before others begin a queue elsewhere.

Whoever is first in a queue for bytes has those put by that are free there: of many queues each keeps some from others.
"""
NOBODY: Final = Heartbeat(node="-", started="-", number=0, sent=0.0)


class Attempt(NamedTuple):
    """A request that was sent to the node ``at`` a time; ``refused``: the node had nothing for it at that time."""

    at: float
    sought: Sought
    prospect: Prospect
    refused: bool = False


def needed(offered: Offered) -> int:
    """Bytes that a new instance takes at least of one device that is not RAM; 0 if none, or if nobody knows."""
    return max([size for device, size in offered.needs.items() if device != HOST], default=0)


class View:
    """Vacant slots, free bytes and the queue of a node, lowered by each request that its heartbeat cannot know yet."""

    def __init__(self, beat: Heartbeat) -> None:
        self.rooms: dict[str, DeviceRoom] = {room.device: room for room in beat.rooms}
        self.free = {room.device: room.free for room in beat.rooms}
        cards = [room for room in beat.rooms if room.device != HOST] or beat.rooms
        self.most = max((room.free + (0 if beat.waiting else room.idle) for room in cards), default=0)
        """Bytes that a device could have for a new instance, before anything was asked."""
        self.slots: dict[str, int] = {}
        """Slots of instances that are up, by model, and those of them that nobody has."""
        self.vacant: dict[str, int] = {}
        self.coming: dict[str, int] = {}
        """Slots of instances that load, by model."""
        for running in beat.running:
            where = self.coming if running.loading else self.vacant
            where[running.model] = where.get(running.model, 0) + running.vacant
            if not running.loading:
                self.slots[running.model] = self.slots.get(running.model, 0) + running.slots
        self.waiting, self.eta = beat.waiting, beat.eta
        self._is_stuck = beat.waiting > 0 and not beat.eta
        """Nobody can say when those who wait there are served."""
        self._bind()
        self.refused: set[str] = set()
        """Models for which it had nothing."""

    @property
    def slotted(self) -> set[str]:
        """Models of which it has instances, up or coming up."""
        return self.vacant.keys() | self.coming.keys()

    def _bind(self) -> None:
        """Note the best standings of a request for a model of which it has no instance: with the bytes, and without."""
        self.with_bytes = Standing.BESIDE if self.waiting else Standing.FITS
        joined = 0 < self.waiting < JOINED and not self._is_stuck
        self.without_bytes = Standing.WAITS if joined else Standing.BEGINS

    def prospect(self, node: str, offered: Offered, sought: Sought) -> Prospect:
        """The chance of a request for a model that the node offers. Beside a queue nothing is ended for it."""
        model = offered.model
        if model in self.refused:
            return self._waits(node, offered)
        enough = not offered.ctx or sought.ctx <= offered.ctx
        if enough and (vacant := self.vacant.get(model, 0)) >= sought.slots:
            return Prospect(Standing.READY, -vacant, 0.0, node)
        if enough and self.coming.get(model, 0) >= sought.slots:
            return Prospect(Standing.FITS, -1.0, offered.load, node, joins=True)
        found = self._room(node, offered)
        if found is not None and self.waiting:
            found = found._replace(standing=Standing.BESIDE) if found.standing is Standing.FITS else None
        return found if found is not None else self._waits(node, offered)

    def _waits(self, node: str, offered: Offered) -> Prospect:
        eta = self.eta + (0.0 if offered.model in self.vacant else offered.load)
        for_slots = self.waiting + 1 < self.slots.get(offered.model, 0)
        standing = Standing.WAITS if for_slots else self.without_bytes
        return Prospect(standing, inf if self._is_stuck else eta, eta, node)

    def _room(self, node: str, offered: Offered) -> Prospect | None:
        """Bytes for a new instance: the fewest left over, else the fewest that end for it; None if neither.

        A size that nobody knows counts as a whole device.
        """
        if self.most < needed(offered):
            return None
        best: Prospect | None = None
        if len(offered.needs) > 1 or HOST in offered.needs:
            left = min(self._left(device, size) for device, size in offered.needs.items())
            ends = sum(max(0, -self._left(device, size)) for device, size in offered.needs.items())
            idle = all(self._left(d, n) + self._idle(d) >= 0 for d, n in offered.needs.items())
            return self._new(node, offered.load, "", 0, left if left >= 0 else -ends) if idle else None
        for device, room in self.rooms.items():
            if device == HOST and len(self.rooms) > 1:
                continue
            size = next(iter(offered.needs.values()), room.capacity)
            left = self._left(device, size)
            if left + room.idle >= 0:
                found = self._new(node, offered.load, device, size, left)
                best = found if best is None else min(best, found)
        return best

    def _new(self, node: str, load: float, device: str, size: int, left: int) -> Prospect:
        standing = Standing.FITS if left >= 0 else Standing.MAKES_WAY
        return Prospect(standing, abs(left), load, node, device, size)

    def _left(self, device: str, size: int) -> int:
        return self.free.get(device, 0) - size

    def _idle(self, device: str) -> int:
        return self.rooms[device].idle if device in self.rooms else 0

    def lower(self, asked: Attempt, slots: int) -> None:
        """Take off what a request took, or what the node turned out not to have. ``slots``: of a new instance."""
        model, prospect = asked.sought.model, asked.prospect
        if asked.refused:
            self.refused.add(model)
        elif prospect.standing is Standing.READY:
            self.vacant[model] = self.vacant.get(model, 0) - asked.sought.slots
        elif prospect.standing >= Standing.WAITS:
            self.eta += prospect.eta / (self.waiting + 1)
            self.waiting += 1
            self._bind()
        else:
            if prospect.device in self.free:
                self.free[prospect.device] -= prospect.size
            new = 0 if prospect.joins else slots
            self.coming[model] = self.coming.get(model, 0) + new - asked.sought.slots

    def free_slots(self, ended: Attempt) -> None:
        """Add the slots of a request that was answered since the heartbeat."""
        self.give_back(ended)
        self.refused.discard(ended.sought.model)

    def give_back(self, ended: Attempt) -> None:
        """Add the slots that a request took which was sent and answered since the heartbeat."""
        model = ended.sought.model
        self.vacant[model] = self.vacant.get(model, 0) + ended.sought.slots
