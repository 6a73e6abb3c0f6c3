"""Real arithmetic around the core, in virtual time, for bench/simulate.py."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lmxd.core.admission import Admission
from lmxd.core.decisions import CheckActivity, Decision, GrantLease, RefuseLease, StartInstance, StopInstance
from lmxd.core.events import (
    ActivitySeen,
    Event,
    InstanceExited,
    InstanceReady,
    LeaseReleased,
    LeaseRequested,
    MemoryMeasured,
    TimePassed,
)
from lmxd.core.invariants import broken
from lmxd.core.orders import PolicyChanged
from lmxd.core.rules import Policy
from lmxd.core.words import (
    Ask,
    ConnectionId,
    DeviceId,
    DeviceReading,
    Hold,
    InstanceId,
    LeaseId,
    Option,
    Owner,
    Phase,
    Taken,
    TicketId,
)

GIB = 2**30
LOOK = 0.002
"""Seconds that an engine takes to say whether it works."""


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
    slots: int = 1
    """Of an instance that is started for it; the job takes one."""


@dataclass
class Result:
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: list[tuple[float, str]] = field(default_factory=list)
    """(when it ended, client) of each."""
    refused: int = 0
    ooms: int = 0
    evictions: int = 0
    byte_seconds: float = 0.0
    idle_while_wanted: float = 0.0
    """Seconds for which a ready instance that nobody had stood idle while a request for it waited."""
    packed: float = 0.0
    possible: float = 0.0
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
        self.capacity = {DeviceId(name): size for name, size in devices.items()}
        self.idle, self.check = idle, check
        self.foreign = dict.fromkeys(devices, 0)
        self.lags = False
        self.admission = Admission()
        self.state = self.admission.state
        self.now, self._ids = 0.0, itertools.count(1)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.result = Result()
        self._jobs: dict[TicketId, Job] = {}
        self._chains: dict[str, list[Job]] = defaultdict(list)
        self._options: dict[int, tuple[Option, ...]] = {}
        self.has: dict[InstanceId, dict[DeviceId, int]] = {}
        self.policy = Policy(queue_depth=1_000_000, **rules)
        self.handle(PolicyChanged(at=0.0, policy=self.policy))
        self.measure()
        for job in jobs:
            if job.chained:
                self._chains[job.client].append(job)
            else:
                self.later(job.at, partial(self.ask, job))

    def later(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._ids), do))

    def run(self, until: float = float("inf")) -> Result:
        while self._heap and self._heap[0][0] <= until:
            due = self.admission.next_deadline()
            at = self._heap[0][0]
            if due is not None and due < at:
                self._pass(max(self.now, due))
                self.handle(TimePassed(at=self.now))
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
        if dt > 0 and self.check:
            self.result.idle_while_wanted += dt * self._idle_while_wanted()
        if dt > 0 and len(self.state.queue) and len(self.capacity) == 1:
            self.result.packed += dt * sum(charged.values())
            self.result.possible += dt * self._optimum()

    def _idle_while_wanted(self) -> int:
        wanted = {ticket.ask.kind for ticket in self.state.queue}
        instances = self.state.instances.values()
        return sum(i.phase is Phase.READY and i.vacant and i.ask.kind in wanted for i in instances)

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

    def handle(self, event: Event) -> None:
        begun = time.thread_time_ns()
        decisions = self.admission.handle(event).decisions
        took = time.thread_time_ns() - begun
        if isinstance(event, LeaseRequested):
            self.result.requests.append(took)
        elif isinstance(event, TimePassed):
            self.result.ticks.append(took)
        elif not isinstance(event, MemoryMeasured):
            self.result.others.append(took)
        if self.check:
            assert not broken(self.state), broken(self.state)
        for decision in decisions:
            self._perform(decision)

    def tick(self) -> None:
        """What the daemon does once a second."""
        self.handle(TimePassed(at=self.now))

    def _perform(self, decision: Decision) -> None:
        match decision:
            case StartInstance():
                self.has[decision.instance] = dict(decision.option.demand)
                at = self.now + load_seconds(decision.option.size)
                self.later(at, lambda: self._report(InstanceReady(at=self.now, instance=decision.instance)))
            case StopInstance():
                self.result.evictions += decision.cause.value == "evicted"
                self.later(self.now + 0.1, lambda: self._exited(decision.instance))
            case CheckActivity():
                self.later(
                    self.now + LOOK,
                    lambda: self._report(self._seen(decision.instance)),
                )
            case GrantLease():
                job = self._jobs.pop(decision.ticket)
                self.result.waits[job.client].append(decision.waited)
                self.later(self.now + job.work, lambda: self._over(job, decision.lease))
            case RefuseLease():
                self.result.refused += 1
                self._next(self._jobs.pop(decision.ticket))

    def _seen(self, instance: InstanceId) -> ActivitySeen:
        """An engine works for whoever has a lease: a job does nothing else with it."""
        found = self.state.instances.get(instance)
        busy = found is not None and bool(found.leases)
        return ActivitySeen(at=self.now, instance=instance, busy=busy, worked=busy)

    def _report(self, event: Event) -> None:
        if not isinstance(event, InstanceReady) or event.instance in self.has:
            self.handle(event)

    def _exited(self, instance: InstanceId) -> None:
        self.has.pop(instance, None)
        self.handle(InstanceExited(at=self.now, instance=instance))
        self.later(self.now + 0.05, self.measure)

    def _over(self, job: Job, lease: LeaseId) -> None:
        self.result.answers.append((self.now, job.client))
        instance = self.state.leases[lease].instance if lease in self.state.leases else None
        self.handle(LeaseReleased(at=self.now, lease=lease))
        if instance is not None:
            self.later(self.now + self.idle + 0.1, lambda: self._poll(instance))
        self._next(job)

    def _poll(self, instance: InstanceId) -> None:
        self.handle(self._seen(instance))

    def _next(self, job: Job) -> None:
        if self._chains[job.client]:
            following = self._chains[job.client].pop(0)
            self.later(self.now + following.at, lambda: self.ask(following))

    def ask(self, job: Job) -> None:
        name = TicketId(f"t{next(self._ids)}")
        self._jobs[name] = job
        if job.size not in self._options:
            self._options[job.size] = tuple(Option(demand={device: job.size}) for device in self.capacity)
        ask = Ask(
            profile=job.model,
            variant="v",
            context=4096,
            slots=1,
            spread=job.slots,
            options=self._options[job.size],
            priority=job.priority,
            idle_timeout=self.idle,
        )
        owner = Owner(uid=job.uid, pid=1, connection=ConnectionId(1))
        self.handle(
            LeaseRequested(
                at=self.now, ticket=name, lease=LeaseId(f"l-{name}"), owner=owner, ask=ask, hold=Hold.EXPLICIT
            )
        )

    def measure(self) -> None:
        taken: dict[DeviceId, dict[InstanceId, Taken]] = {device: {} for device in self.capacity}
        for instance, has in self.has.items():
            for device, size in has.items():
                taken[device][instance] = Taken(total=size, visible=size)
        readings = []
        for device, capacity in self.capacity.items():
            used = sum(t.total for t in taken[device].values()) + self.foreign[device]
            readings.append(
                DeviceReading(device=device, capacity=capacity, used=used, lags=self.lags, taken=taken[device])
            )
        self.handle(MemoryMeasured(at=self.now, begun=self.now, readings=tuple(readings)))
