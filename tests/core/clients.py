"""Clients and engines in virtual time around the core's world: who asks again when it was answered, and who loads."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.world import World

from lmxd.core.decisions import CheckActivity, GrantLease, StartInstance, StopInstance
from lmxd.core.events import LeaseReleased, TimePassed
from lmxd.core.words import InstanceId, LeaseId

TICK = 0.25
"""Seconds between two readings of the devices while anybody waits, as the daemon takes them."""


@dataclass
class Clients:
    """``loads``: seconds that each model takes to load; ``works``: seconds of one answer; ``going``: of an end."""

    world: World
    loads: dict[str, float]
    works: dict[str, float]
    going: float = 0.3
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By client: seconds from each ask to its grant."""
    answers: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    loaded: int = 0

    def __post_init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        self.asked: dict[str, tuple[str, float, Callable[[], None]]] = {}
        self._seen = len(self.world.log)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.world.now + seconds, next(self._ids), do))

    def ask(self, client: str, model: str, gib: float, then: Callable[[], None], **more: Any) -> None:
        """One request; ``then`` when its answer is complete."""
        asked_at = self.world.now
        ticket = f"t{len(self.world.asked) + 1}"
        self.asked[ticket] = client, asked_at, then
        assert self.world.ask(model, gib, **more) == ticket
        self.carry_out()

    def loop(self, client: str, models: list[str], gib: float, *, pause: float = 0.001, **more: Any) -> None:
        """A client that asks one model after the other, each when the last has answered, for ever."""
        turns = itertools.cycle(models)

        def again() -> None:
            self.after(pause, lambda: self.ask(client, next(turns), gib, again, **more))

        again()

    def run(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let so many seconds pass, or fewer if ``enough`` was seen."""
        end = self.world.now + seconds
        self.after(0.0, self._measure)
        while self._heap and self._heap[0][0] <= end and not enough():
            due = self.world.admission.next_deadline()
            if due is not None and due < self._heap[0][0]:
                self.world.now = max(self.world.now, due)
                self.world.happen(TimePassed(at=self.world.now))
            else:
                at, _, do = heapq.heappop(self._heap)
                self.world.now = max(self.world.now, at)
                do()
            self.carry_out()

    def _measure(self) -> None:
        self.world.measure()
        self.after(TICK, self._measure)

    def carry_out(self) -> None:
        while self._seen < len(self.world.log):
            decision = self.world.log[self._seen]
            self._seen += 1
            match decision:
                case StartInstance():
                    self.loaded += 1
                    self.after(self.loads[decision.ask.profile], partial(self._ready, decision.instance))
                case StopInstance():
                    self.after(self.going, partial(self.world.gone, decision.instance))
                case CheckActivity():
                    self.after(0.003, partial(self.look, decision.instance))
                case GrantLease() if decision.ticket in self.asked:
                    self._granted(decision)

    def _ready(self, instance: InstanceId) -> None:
        found = self.world.state.instances.get(instance)
        if found is not None and found.live:
            self.world.ready(instance)

    def look(self, instance: InstanceId) -> None:
        found = self.world.state.instances.get(instance)
        if found is not None:
            self.world.seen(instance, busy=bool(found.leases), worked=bool(found.leases))

    def _granted(self, decision: GrantLease) -> None:
        client, asked_at, then = self.asked.pop(decision.ticket)
        self.waits[client].append(self.world.now - asked_at)
        self.after(self.works[decision.profile], lambda: self._answered(client, decision.lease, then))

    def _answered(self, client: str, lease: LeaseId, then: Callable[[], None]) -> None:
        self.answers[client] += 1
        self.world.happen(LeaseReleased(at=self.world.now, lease=lease))
        then()
