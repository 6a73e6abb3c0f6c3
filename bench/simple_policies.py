"""Policies of others, as small models, for bench/simulate.py. One device; sizes are what a model takes."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from simulated_world import Job, load_seconds

MODELS_MAX = 4
"""The router's default for --models-max."""


def waited(waits: dict[str, list[float]], client: str, quantile: float) -> float:
    """Seconds that clients whose names begin so waited; not a number if none was served."""
    found = sorted(w for name, some in waits.items() if name.startswith(client) for w in some)
    return found[min(len(found) - 1, int(len(found) * quantile))] if found else float("nan")


@dataclass
class Loaded:
    """An instance. ``users`` are being answered, ``line`` waits at it for a slot."""

    model: str
    size: int
    slots: int
    ready_at: float
    users: int = 0
    used_at: float = 0.0
    line: list[tuple[float, Job]] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.users and not self.line


class Simple:
    """Clients queue; ``choose`` says who of those that wait is looked at next, ``make_room`` whether there is room."""

    def __init__(self, devices: dict[str, int], jobs: list[Job], idle: float):
        (self.capacity,) = devices.values()
        self.idle = idle
        self.now, self.evictions, self.ooms, self.byte_seconds, self.ended_at = 0.0, 0, 0, 0.0, 0.0
        self.idle_while_wanted = 0.0
        self.loaded: dict[str, Loaded] = {}
        self.waiting: list[tuple[float, Job]] = []
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.answers: list[tuple[float, str]] = []
        self.rng = random.Random(0)
        self._chains: dict[str, list[Job]] = defaultdict(list)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = itertools.count()
        for job in jobs:
            if job.chained:
                self._chains[job.client].append(job)
            else:
                self._later(job.at, partial(self._ask, job))

    def _later(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._ids), do))

    def run(self, until: float = float("inf")) -> Simple:
        while self._heap and self._heap[0][0] <= until:
            at, _, do = heapq.heappop(self._heap)
            self._pass(at)
            do()
            self._serve()
        self.ended_at = self.now
        return self

    def _pass(self, to: float) -> None:
        dt = to - self.now
        self.byte_seconds += dt * sum(x.size for x in self.loaded.values())
        wanted = {job.model for _, job in self.waiting}
        idle = sum(x.model in wanted and x.idle and x.ready_at <= self.now for x in self.loaded.values())
        self.idle_while_wanted += dt * idle
        self.now = to

    def _ask(self, job: Job) -> None:
        self.waiting.append((self.now, job))

    def choose(self) -> list[tuple[float, Job]]:
        """Those who are looked at, in order."""
        return list(self.waiting)

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

    def _admitted(self, job: Job) -> bool:
        mine = self.loaded.get(job.model)
        if mine is not None:
            return mine.users < mine.slots
        return self.make_room(job) and self._load(job)

    def _load(self, job: Job) -> bool:
        self.loaded[job.model] = mine = Loaded(job.model, job.size, job.slots, self.now + load_seconds(job.size))
        self._later(mine.ready_at, lambda: None)  # so that idleness is counted from there
        return True

    def make_room(self, job: Job) -> bool:
        """Evict the least recently used idle ones, one by one, until it fits."""
        idle = self.evictable()
        if self.free() + sum(x.size for x in idle) < job.size:
            return False
        while self.free() < job.size:
            self.evict(idle.pop(0))
        return True

    def evictable(self) -> list[Loaded]:
        """The least recently used first."""
        return sorted((x for x in self.loaded.values() if x.idle), key=lambda x: x.used_at)

    def evict(self, victim: Loaded) -> None:
        del self.loaded[victim.model]
        self.evictions += 1

    def _grant(self, asked_at: float, job: Job) -> None:
        mine = self.loaded[job.model]
        mine.users += 1
        at = max(self.now, mine.ready_at)
        self.waits[job.client].append(at - asked_at)
        self._later(at + job.work, lambda: self._over(job, mine))

    def _over(self, job: Job, mine: Loaded) -> None:
        mine.users -= 1
        mine.used_at = self.now
        self.answers.append((self.now, job.client))
        self._later(self.now + self.idle, lambda: self._reap(mine))
        self._next(job)

    def _next(self, job: Job) -> None:
        if self._chains[job.client]:
            following = self._chains[job.client].pop(0)
            self._later(self.now + following.at, lambda: self._ask(following))

    def _reap(self, mine: Loaded) -> None:
        if self.loaded.get(mine.model) is mine and mine.idle and self.now - mine.used_at >= self.idle:
            del self.loaded[mine.model]


class Fifo(Simple):
    """Strictly in order: who cannot be served holds up the rest."""

    def blocks(self) -> bool:
        return True


class Declared(Simple):
    """large-model-proxy. A request for a running service is connected at once, and waits for a slot inside it.

    A service with connections is never stopped. One request of a service that does not run waits for bytes, the
    others for it; whoever wakes up first takes what came free. Loads overlap.
    """

    def choose(self) -> list[tuple[float, Job]]:
        return self.rng.sample(self.waiting, len(self.waiting))

    def _admitted(self, job: Job) -> bool:
        return job.model in self.loaded or (self.make_room(job) and self._load(job))

    def make_room(self, job: Job) -> bool:
        """Stop idle services until it fits: one after the other, even if they come to too little."""
        idle = self.evictable()
        while self.free() < job.size and idle:
            self.evict(idle.pop(0))
        return self.free() >= job.size

    def _grant(self, asked_at: float, job: Job) -> None:
        mine = self.loaded[job.model]
        if mine.users < mine.slots:
            super()._grant(asked_at, job)
        else:
            mine.line.append((asked_at, job))

    def _over(self, job: Job, mine: Loaded) -> None:
        super()._over(job, mine)
        if mine.line:
            self._grant(*mine.line.pop(0))


class Count(Simple):
    """The router. Bytes are not looked at: what does not fit when it is loaded is out of memory, its client errs."""

    def make_room(self, job: Job) -> bool:
        idle = self.evictable()
        while len(self.loaded) >= MODELS_MAX and idle:
            self.evict(idle.pop(0))
        return len(self.loaded) < MODELS_MAX

    def _grant(self, asked_at: float, job: Job) -> None:
        mine = self.loaded[job.model]
        if self.free() < 0 and not mine.users and mine.ready_at > self.now:
            del self.loaded[job.model]
            self.ooms += 1
            self._next(job)
            return
        super()._grant(asked_at, job)


POLICIES: dict[str, type[Simple]] = {"fifo": Fifo, "count": Count, "declared": Declared}


def answered(answers: list[tuple[float, str]], client: str) -> int:
    """How many answers clients had whose names begin so."""
    return sum(name.startswith(client) for _, name in answers)
