"""Policies of others, as small models, for bench/simulate.py. One device; sizes are what a model takes."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MODELS_MAX = 4
"""The router's default for --models-max."""


def waited(waits: dict[str, list[float]], client: str, quantile: float) -> float:
    """Seconds that clients whose names begin so waited; not a number if none was served."""
    found = sorted(w for name, some in waits.items() if name.startswith(client) for w in some)
    return found[min(len(found) - 1, int(len(found) * quantile))] if found else float("nan")


@dataclass
class Loaded:
    model: str
    size: int
    ready_at: float
    users: int = 0
    used_at: float = 0.0


class Simple:
    """Clients queue; ``choose`` says who of those that wait is looked at next, ``admits`` whether there is room."""

    def __init__(self, devices: dict[str, int], jobs: list[Any], load_seconds: Callable[[int], float], idle: float):
        (self.capacity,) = devices.values()
        self.load_seconds, self.idle = load_seconds, idle
        self.now, self.evictions, self.ooms, self.byte_seconds, self.ended_at = 0.0, 0, 0, 0.0, 0.0
        self.loaded: dict[str, Loaded] = {}
        self.waiting: list[tuple[float, Any]] = []
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.rng = random.Random(0)
        self._chains: dict[str, list[Any]] = defaultdict(list)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        for job in jobs:
            if job.chained:
                self._chains[job.client].append(job)
            else:
                self._later(job.at, lambda job=job: self._ask(job))  # type: ignore[misc]

    def _later(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._ids), do))

    def run(self) -> Simple:
        while self._heap:
            at, _, do = heapq.heappop(self._heap)
            self.byte_seconds += (at - self.now) * sum(x.size for x in self.loaded.values())
            self.now = at
            do()
            self._serve()
        self.ended_at = self.now
        return self

    def _ask(self, job: Any) -> None:
        self.waiting.append((self.now, job))

    def choose(self) -> list[tuple[float, Any]]:
        """Those who are looked at, in order."""
        raise NotImplementedError

    def blocks(self) -> bool:
        """Whether one that cannot be served holds up the rest."""
        return False

    def _serve(self) -> None:
        for entry in self.choose():
            if self._admitted(entry[1]):
                self.waiting.remove(entry)
                self._grant(*entry)
            elif self.blocks():
                return

    def free(self) -> int:
        return self.capacity - sum(x.size for x in self.loaded.values())

    def _admitted(self, job: Any) -> bool:
        mine = self.loaded.get(job.model)
        if mine is not None:
            return mine.users == 0
        if not self.make_room(job):
            return False
        self.loaded[job.model] = Loaded(job.model, job.size, self.now + self.load_seconds(job.size))
        return True

    def make_room(self, job: Any) -> bool:
        """Evict the least recently used idle ones, one by one, until it fits."""
        idle = sorted((x for x in self.loaded.values() if not x.users), key=lambda x: x.used_at)
        if self.free() + sum(x.size for x in idle) < job.size:
            return False
        while self.free() < job.size:
            self.evict(idle.pop(0))
        return True

    def evict(self, victim: Loaded) -> None:
        del self.loaded[victim.model]
        self.evictions += 1

    def _grant(self, asked_at: float, job: Any) -> None:
        mine = self.loaded[job.model]
        mine.users += 1
        at = max(self.now, mine.ready_at)
        self.waits[job.client].append(at - asked_at)
        self._later(at + job.work, lambda: self._over(job, mine))

    def _over(self, job: Any, mine: Loaded) -> None:
        mine.users -= 1
        mine.used_at = self.now
        self._later(self.now + self.idle, lambda: self._reap(mine))
        self._next(job)

    def _next(self, job: Any) -> None:
        if self._chains[job.client]:
            following = self._chains[job.client].pop(0)
            self._later(self.now + following.at, lambda: self._ask(following))

    def _reap(self, mine: Loaded) -> None:
        if self.loaded.get(mine.model) is mine and not mine.users and self.now - mine.used_at >= self.idle:
            del self.loaded[mine.model]


class Fifo(Simple):
    def choose(self) -> list[tuple[float, Any]]:
        return list(self.waiting)

    def blocks(self) -> bool:
        return True


class Declared(Simple):
    """All who wait are woken, and one of them is the first to take the lock."""

    def choose(self) -> list[tuple[float, Any]]:
        return self.rng.sample(self.waiting, len(self.waiting))


class Count(Simple):
    """Bytes are not looked at: what does not fit when it is loaded is out of memory, and its client gets an error."""

    def choose(self) -> list[tuple[float, Any]]:
        return list(self.waiting)

    def make_room(self, job: Any) -> bool:
        idle = sorted((x for x in self.loaded.values() if not x.users), key=lambda x: x.used_at)
        while len(self.loaded) >= MODELS_MAX and idle:
            self.evict(idle.pop(0))
        return len(self.loaded) < MODELS_MAX

    def _grant(self, asked_at: float, job: Any) -> None:
        mine = self.loaded[job.model]
        if self.free() < 0 and not mine.users and mine.ready_at > self.now:
            del self.loaded[job.model]
            self.ooms += 1
            self._next(job)
            return
        super()._grant(asked_at, job)
