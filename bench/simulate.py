"""Admission in virtual time: bench/simulate.py [--quick] [--growth]

The very core that the daemon runs is driven by traces, with time that passes as fast as the CPU allows; beside it,
on the same traces, simple policies of others as their sources describe them:

  fifo      strictly in order, bytes reserved, the longest idle evicted
  count     llama.cpp's router: at most four models loaded, the least recently used evicted; bytes are not looked at
  declared  large-model-proxy: declared bytes, and whoever wakes up first when some come free

A launch takes 1 s and 0.25 s a GiB, an exit 0.1 s; clients hold their lease for the time that the trace says.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from simple_policies import Count, Declared, Fifo, Simple, waited

from lmxd.core import decisions as d
from lmxd.core import events as e
from lmxd.core.admission import Admission
from lmxd.core.invariants import broken
from lmxd.core.rules import Policy
from lmxd.core.words import Ask, DeviceReading, Hold, Option, Owner, Taken

GIB = 2**30


def load_seconds(size: int) -> float:
    return 1.0 + 0.25 * size / GIB


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request of a trace: at ``at``, or ``at`` seconds after the job ``after`` it of the same client ended."""

    client: str
    model: str
    size: int
    at: float
    work: float
    priority: int = 0
    uid: int = 1000
    chained: bool = False


@dataclass
class Result:
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    ooms: int = 0
    evictions: int = 0
    byte_seconds: float = 0.0
    packed: float = 0.0
    possible: float = 0.0
    worst_over_bound: float = 0.0
    overdrawn: float = 0.0
    requests: list[int] = field(default_factory=list)
    """Nanoseconds of CPU that the core took for each request, and for each release, exit and answer of an engine."""
    others: list[int] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    """The same of each passing of time."""
    ended_at: float = 0.0
    backfilled: int = 0
    thrash: int = 0


class World:
    """Real arithmetic around the core: processes that load, hold bytes and exit; clients; foreign use; a clock."""

    def __init__(
        self, devices: dict[str, int], jobs: list[Job], *, idle: float = 60.0, check: bool = True, **rules: Any
    ):
        self.capacity, self.idle, self.check = devices, idle, check
        self.foreign = dict.fromkeys(devices, 0)
        self.lags = False
        self.admission = Admission()
        self.state = self.admission.state
        self.now, self._ids = 0.0, itertools.count(1)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.result = Result()
        self._jobs: dict[str, Job] = {}
        self._chains: dict[str, list[Job]] = defaultdict(list)
        self._options: dict[int, tuple[Option, ...]] = {}
        self.has: dict[str, dict[str, int]] = {}
        self.policy = Policy(queue_depth=1_000_000, **rules)
        self.handle(e.PolicyChanged(at=0.0, policy=self.policy))
        self.measure()
        for job in jobs:
            if job.chained:
                self._chains[job.client].append(job)
            else:
                self.later(job.at, lambda job=job: self.ask(job))  # type: ignore[misc]

    def later(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._ids), do))

    def run(self, until: float = float("inf")) -> Result:
        while self._heap and self._heap[0][0] <= until:
            due = self.admission.next_deadline()
            at = self._heap[0][0]
            if due is not None and due < at:
                self._pass(max(self.now, due))
                self.handle(e.TimePassed(at=self.now))
                continue
            self._pass(at)
            heapq.heappop(self._heap)[2]()
        self.result.backfilled, self.result.thrash = self.state.counts["backfilled"], self.state.counts["thrash"]
        self.result.ended_at = self.now
        return self.result

    def _pass(self, to: float) -> None:
        dt, self.now = to - self.now, to
        charged = {d: a.charged + a.reclaiming for d, a in self.state.ledger.accounts.items()}
        self.result.byte_seconds += dt * sum(charged.values())
        self.result.overdrawn += dt * sum(a.headroom < 0 for a in self.state.ledger.accounts.values())
        if dt > 0 and len(self.state.queue) and len(self.capacity) == 1:
            self.result.packed += dt * sum(charged.values())
            self.result.possible += dt * self._optimum()

    def _optimum(self) -> int:
        """The most that any choice of those who are served or wait would have packed: subset sums, exactly."""
        (capacity,) = self.capacity.values()
        sizes = [i.option.size for i in self.state.instances.values() if not i.vacant or not i.live]
        sizes += [t.ask.need for t in self.state.queue]
        unit = GIB // 4
        sums = 1
        for size in sizes:
            sums |= sums << -(-size // unit)
        sums &= (1 << capacity // unit + 1) - 1
        return (sums.bit_length() - 1) * unit

    def handle(self, event: e.Event) -> None:
        begun = time.thread_time_ns()
        decisions = self.admission.handle(event)
        took = time.thread_time_ns() - begun
        if isinstance(event, e.LeaseRequested):
            self.result.requests.append(took)
        elif isinstance(event, e.TimePassed):
            self.result.ticks.append(took)
        elif not isinstance(event, e.MemoryMeasured):
            self.result.others.append(took)
        if self.check:
            assert not broken(self.state), broken(self.state)
        for decision in decisions:
            self._perform(decision)

    def tick(self) -> None:
        """What the daemon does once a second."""
        self.handle(e.TimePassed(at=self.now))

    def _perform(self, decision: d.Decision) -> None:
        match decision:
            case d.StartInstance():
                self.has[decision.instance] = dict(decision.option.demand)
                at = self.now + load_seconds(decision.option.size)
                self.later(at, lambda: self._report(e.InstanceReady(at=self.now, instance=decision.instance)))
            case d.StopInstance():
                self.result.evictions += decision.cause.value == "evicted"
                self.later(self.now + 0.1, lambda: self._exited(decision.instance))
            case d.CheckActivity():
                idle = e.ActivitySeen
                self.later(
                    self.now + 0.002,
                    lambda: self._report(idle(at=self.now, instance=decision.instance, busy=False, worked=False)),
                )
            case d.GrantLease():
                job = self._jobs.pop(decision.ticket)
                self.result.waits[job.client].append(decision.waited)
                self.later(self.now + job.work, lambda: self._over(job, decision.lease))
            case d.RefuseLease():
                self.result.refused += 1
                self._next(self._jobs.pop(decision.ticket))

    def _report(self, event: e.Event) -> None:
        if not isinstance(event, e.InstanceReady) or event.instance in self.has:
            self.handle(event)

    def _exited(self, instance: str) -> None:
        self.has.pop(instance, None)
        self.handle(e.InstanceExited(at=self.now, instance=instance))
        self.later(self.now + 0.05, self.measure)

    def _over(self, job: Job, lease: str) -> None:
        instance = self.state.leases[lease].instance if lease in self.state.leases else None
        self.handle(e.LeaseReleased(at=self.now, lease=lease))
        if instance is not None:
            self.later(self.now + self.idle + 0.1, lambda: self._poll(instance))
        self._next(job)

    def _poll(self, instance: str) -> None:
        self.handle(e.ActivitySeen(at=self.now, instance=instance, busy=False, worked=False))

    def _next(self, job: Job) -> None:
        if self._chains[job.client]:
            following = self._chains[job.client].pop(0)
            self.later(self.now + following.at, lambda: self.ask(following))

    def ask(self, job: Job) -> None:
        name = f"t{next(self._ids)}"
        self._jobs[name] = job
        if job.size not in self._options:
            self._options[job.size] = tuple(Option(demand={device: job.size}) for device in self.capacity)
        ask = Ask(
            profile=job.model,
            variant="v",
            context=4096,
            slots=1,
            spread=1,
            options=self._options[job.size],
            priority=job.priority,
            idle_timeout=self.idle,
        )
        owner = Owner(uid=job.uid, pid=1, connection=1)
        self.handle(
            e.LeaseRequested(at=self.now, ticket=name, lease=f"l-{name}", owner=owner, ask=ask, hold=Hold.EXPLICIT)
        )

    def measure(self) -> None:
        readings = []
        for device, capacity in self.capacity.items():
            taken = {i: Taken(total=has[device], visible=has[device]) for i, has in self.has.items() if device in has}
            used = sum(t.total for t in taken.values()) + self.foreign[device]
            readings.append(DeviceReading(device=device, capacity=capacity, used=used, lags=self.lags, taken=taken))
        self.handle(e.MemoryMeasured(at=self.now, begun=self.now, readings=tuple(readings)))


# traces


def bursty(hours: float, seed: int) -> list[Job]:
    """Three agents with a model each: ten calls of 3 s, one after the other, then a quarter of an hour on average."""
    rng, jobs = random.Random(seed), []
    for number in range(3):
        at = 0.0
        while at < hours * 3600:
            for call in range(10):
                pause = 1.0 if call else rng.expovariate(1 / 900)
                name = f"agent{number}"
                jobs.append(Job(client=name, model=f"m{number}", size=6 * GIB, at=pause, work=3.0, chained=bool(at)))
                at += pause + 3.0
    return jobs


def rivals(seed: int) -> list[Job]:
    """Eight clients who never stop asking for A, and one who now and then wants B; one fits at a time."""
    rng = random.Random(seed)
    jobs = [
        Job(
            client=f"hot{n}",
            model="a",
            size=16 * GIB,
            at=0.01 * n if first else 0.05,
            work=5.0,
            uid=1,
            chained=not first,
        )
        for n in range(8)
        for first in [True] + [False] * 120
    ]
    return jobs + [
        Job(client="cold", model="b", size=16 * GIB, at=rng.uniform(60 * n, 60 * n + 30), work=5.0, uid=2)
        for n in range(8)
    ]


def mixed(count: int, seed: int) -> list[Job]:
    """Many at once, of all sizes, each with a model of its own."""
    rng = random.Random(seed)
    sizes = [2, 3, 5, 6, 9, 14, 20, 40]
    return [
        Job(
            client=f"c{n}",
            model=f"m{n}",
            size=rng.choices(sizes, [6, 6, 5, 5, 4, 3, 2, 1])[0] * GIB,
            at=rng.uniform(0, count),
            work=rng.uniform(20, 120),
            uid=n % 7,
        )
        for n in range(count)
    ]


def fleet(devices: int, jobs: int, seed: int) -> list[Job]:
    """More than the devices can serve at once: four models a device, and a queue of a thousand and more."""
    rng = random.Random(seed)
    return [
        Job(
            client=f"c{n % 50}",
            model=f"m{rng.randrange(4 * devices)}",
            size=rng.choice([10, 20, 30, 40]) * GIB,
            at=rng.uniform(0, 10) if n < jobs * 2 // 3 else rng.uniform(10, 45),
            work=rng.uniform(5, 30),
            uid=n % 20,
        )
        for n in range(jobs)
    ]


# reports


def compare(title: str, devices: dict[str, int], jobs: list[Job], clients: list[str], **more: Any) -> Result:
    print(f"\n{title}")
    head = "".join(f" {c + ' p50':>10} {c + ' p99':>10}" for c in clients)
    print(f"  {'policy':10}{head} {'evictions':>9} {'OOM':>5} {'TiB s':>8} {'over':>8}")
    simple: list[tuple[str, type[Simple]]] = [("fifo", Fifo), ("count", Count), ("declared", Declared)]
    mine = World(devices, jobs, **more).run()
    results: list[tuple[str, Any]] = [("lmxd", mine)]
    idle = more.get("idle", 60.0)
    results += [(name, kind(devices, jobs, load_seconds, idle=idle).run()) for name, kind in simple]
    for name, r in results:
        waits = "".join(f" {waited(r.waits, c, 0.5):10.1f} {waited(r.waits, c, 0.99):10.1f}" for c in clients)
        used = r.byte_seconds / 2**40
        print(f"  {name:10}{waits} {r.evictions:9} {r.ooms:5} {used:8.2f} {r.ended_at:7.0f}s")
    return mine


def bounds(policy: Policy, jobs: list[Job]) -> float:
    """Seconds after which nobody who asks later can be served before: classes, and the share of use."""
    classes = {job.priority for job in jobs}
    return (max(classes) - min(classes)) * policy.aging + policy.fairness


FLEETS = ((1, 60), (10, 400), (100, 3000), (1000, 12000))
"""(devices, jobs) of the growth table."""


def growth(fleets: Sequence[tuple[int, int]]) -> None:
    """Print what one event takes the core, by kind, while more wait than the devices can serve."""
    print("\nfleets: CPU time of one event in the core (us), with more waiting than the devices can serve")
    columns = "".join(f" {kind + ' p50':>12} {'p99':>7}" for kind in ("request", "other", "tick"))
    print(f"{'devices':>7} {'waiting':>7} {'started':>7}{columns}")
    for devices, jobs in fleets:
        world = World({f"d{n}": 80 * GIB for n in range(devices)}, fleet(devices, jobs, 3), check=False)
        world.run(until=10.0)
        waiting, instances, found = len(world.state.queue), len(world.state.instances), world.result
        kinds = (found.requests, found.others, found.ticks)
        for times in kinds:
            times.clear()
        for second in range(10, 45):
            world.later(second + 0.5, world.tick)
        world.run(until=45.0)
        figures = "".join(f" {quantile(times, 0.5):12.1f} {quantile(times, 0.99):7.1f}" for times in kinds)
        print(f"{devices:7} {waiting:7} {instances:7}{figures}")


def quantile(nanoseconds: list[int], part: float) -> float:
    """Microseconds."""
    ordered = sorted(nanoseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000 if ordered else float("nan")


def foreign_spikes() -> Result:
    """Somebody else takes up to half of the device, again and again, for a while."""
    rng = random.Random(5)
    world = World({"gpu": 80 * GIB}, mixed(150, 4), idle=30.0, grace=20.0)

    def change() -> None:
        world.foreign["gpu"] = rng.choice([0, 0, 10, 25, 40]) * GIB
        if len(world.state.tickets) or world.state.leases:
            world.later(world.now + rng.uniform(20, 60), change)

    def look() -> None:
        world.measure()
        if len(world.state.tickets) or world.state.leases or world.now < 150:
            world.later(world.now + 1.0, look)

    world.later(5.0, change)
    world.later(1.0, look)
    return world.run()


def main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter traces, and no fleet of 1,000 devices")
    parser.add_argument("--growth", action="store_true", help="only how long an event takes fleets of more devices")
    given = parser.parse_args()
    quick = given.quick
    if given.growth:
        growth(FLEETS[:-1] if quick else FLEETS)
        return

    hours = 4 if quick else 24
    trace = bursty(hours, 1)
    found = compare(f"three bursty agents, {hours} h, one card of 24 GiB", {"gpu": 24 * GIB}, trace, ["agent"])
    always = 3 * 6 * GIB * found.ended_at
    print(f"  against three servers that are always on: {1 - found.byte_seconds / always:.1%} fewer byte-seconds")
    if found.byte_seconds > 0.4 * always:
        yield "fewer than 60 % of the byte-seconds of always-on were saved"

    trace = rivals(2)
    found = compare("two rivals, one of whom never stops asking", {"gpu": 24 * GIB}, trace, ["hot", "cold"])
    bound = bounds(Policy(), trace) + 8 * 5 + 2 * load_seconds(16 * GIB)
    print(f"  the cold one waited {waited(found.waits, 'cold', 1):.1f} s at most; its bound is {bound:.0f} s")
    if waited(found.waits, "cold", 1) > bound:
        yield "a waiter waited beyond its bound"

    trace = mixed(400, 1)
    found = compare("all sizes at once, one card of 80 GiB", {"gpu": 80 * GIB}, trace, ["c"])
    packing = found.packed / found.possible
    print(f"  packed {packing:.1%} of the best choice at every moment; {found.backfilled} backfilled")
    if packing < 0.97:
        yield "less than 97 % of the optimum was packed"

    found = foreign_spikes()
    served = sum(map(len, found.waits.values()))
    print(f"\nforeign spikes up to half of the card: {served} served, {found.refused} refused,", end="")
    print(f" overdrawn {found.overdrawn:.0f} of {found.ended_at:.0f} s, {found.evictions} evictions")
    growth(FLEETS[:-1] if quick else FLEETS)


if __name__ == "__main__":
    missed = list(main())
    for sentence in missed:
        print(f"! {sentence}")
    sys.exit(bool(missed))
