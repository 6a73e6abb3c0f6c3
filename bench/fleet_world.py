"""A fleet in virtual time for bench/fleet_choosing.py: many real cores, gateways that choose, and late heartbeats."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from simulated_world import Job, World, load_seconds

from lmxd.core.decisions import Decision, GrantLease, RefuseLease
from lmxd.core.events import Event, LeaseReleased, LeaseRequested, TicketCancelled, TimePassed
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, ConnectionId, DeviceId, Hold, LeaseId, Option, Owner, Phase, TicketId
from lmxd.daemon.answering.views import served_in
from lmxd.fleet.choosing.moving import Waiter, Waiters
from lmxd.fleet.choosing.prospects import Prospect, Sought, Standing
from lmxd.fleet.choosing.ranking import ranking
from lmxd.fleet.choosing.table import NodeTable
from lmxd.fleet.reports import DeviceRoom, Heartbeat, NodeCard, Offered, Running

GPU = DeviceId("gpu")
TRIES = 3
TAKEN = 0.25
"""Seconds without a refusal after which a node that was asked to serve at once does."""
PERIOD, LEAST = 1.0, 0.2
"""Seconds between two heartbeats of a node: at most, and at least."""


class Clock:
    """Virtual time: what is due next happens next."""

    def __init__(self) -> None:
        self.now, self._ids = 0.0, itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(at, self.now), next(self._ids), do))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, do = heapq.heappop(self._heap)
            do()


@dataclass(eq=False)
class Request:
    """A job on its way: ``places``: its tickets at nodes. ``served``: one of them was granted."""

    job: Job
    since: float
    gateway: SimulatedGateway | None = None
    tries: int = 0
    moves: int = 0
    served: bool = False
    full: set[str] = field(default_factory=set)
    places: dict[TicketId, SimulatedNode] = field(default_factory=dict)
    waiter: Waiter | None = None


Refused = Callable[[], None]


class SimulatedNode(World):
    """One real core with one card, and what its agent says of it."""

    def __init__(self, clock: Clock, name: str, capacity: int, say: Callable[[Heartbeat], None], idle: float) -> None:
        self.clock, self.name, self._say = clock, name, say
        self._due, self._number, self._spoke_at, self._speaks_at = float("inf"), 0, -1.0, float("inf")
        self._asked: dict[TicketId, tuple[Request, Refused]] = {}
        super().__init__({GPU: capacity}, [], idle=idle, check=False)

    def later(self, at: float, do: Callable[[], None]) -> None:
        def at_my_time() -> None:
            self.now = self.clock.now
            do()

        self.clock.later(at, at_my_time)

    def handle(self, event: Event) -> None:
        super().handle(event)
        due = self.admission.next_deadline()
        if due is not None and due < self._due:
            self._due = due
            self.later(due, self._pass_time)
        self._speak_soon()

    def _pass_time(self) -> None:
        self._due = float("inf")
        due = self.admission.next_deadline()
        if due is not None and due > self.now:
            self._due = due
            self.later(due, self._pass_time)
        elif due is not None:
            self.handle(TimePassed(at=self.now))

    def _perform(self, decision: Decision) -> None:
        match decision:
            case GrantLease():
                request, _ = self._asked.pop(decision.ticket)
                self._jobs.pop(decision.ticket)
                if request.gateway is not None:
                    request.gateway.granted(request, self, decision.ticket)
            case RefuseLease():
                _, refused = self._asked.pop(decision.ticket)
                self._jobs.pop(decision.ticket)
                refused()
            case _:
                super()._perform(decision)

    def request(self, ticket: TicketId, request: Request, ask: Ask, wait: float | None, refused: Refused) -> None:
        job = request.job
        self._jobs[ticket], self._asked[ticket] = job, (request, refused)
        owner = Owner(uid=job.uid, pid=1, connection=ConnectionId(1))
        self.handle(
            LeaseRequested(
                at=self.now,
                ticket=ticket,
                lease=LeaseId(f"l-{ticket}"),
                owner=owner,
                ask=ask,
                hold=Hold.EXPLICIT,
                wait=wait,
                waited=self.now - request.since,
            )
        )

    def work(self, ticket: TicketId, job: Job) -> None:
        """A job has its lease now, and gives it back when it is done."""
        self.later(self.now + job.work, lambda: self._over(job, LeaseId(f"l-{ticket}")))

    def drop(self, ticket: TicketId) -> None:
        """A gateway wants that place, or lease, no more."""
        if self._asked.pop(ticket, None) is not None:
            self._asked[ticket] = (Request(self._jobs[ticket], 0.0), lambda: None)
            self.handle(TicketCancelled(at=self.now, ticket=ticket))
        if LeaseId(f"l-{ticket}") in self.state.leases:
            self.handle(LeaseReleased(at=self.now, lease=LeaseId(f"l-{ticket}")))

    def begin(self, jitter: float) -> None:
        self.later(self.now + jitter, self._speak_on)

    def _speak_on(self) -> None:
        self._speak()
        self.later(self.now + PERIOD, self._speak_on)

    def _speak_soon(self) -> None:
        at = max(self.now, self._spoke_at + LEAST)
        if at < self._speaks_at:
            self._speaks_at = at
            self.later(at, self._speak)

    def _speak(self) -> None:
        self._number += 1
        self._spoke_at, self._speaks_at = self.now, float("inf")
        state = self.state
        idle = [i for i in state.instances.values() if i.phase is Phase.READY and i.vacant]
        waiting = list(state.queue)
        room = DeviceRoom(
            device=GPU,
            capacity=self.capacity[GPU],
            free=max(0, state.ledger.accounts[GPU].headroom),
            idle=sum(i.option.size for i in idle),
        )
        self._say(
            Heartbeat(
                node=self.name,
                started="s",
                number=self._number,
                sent=self.now,
                rooms=(room,),
                running=self._running(),
                waiting=len(waiting),
                eta=served_in(state) or 0.0,
            )
        )

    def _running(self) -> tuple[Running, ...]:
        found: dict[tuple[str, bool], list[Instance]] = {}
        for instance in self.state.instances.values():
            if instance.phase in (Phase.STARTING, Phase.READY):
                found.setdefault((instance.ask.profile, instance.phase is Phase.STARTING), []).append(instance)
        return tuple(
            Running(
                model=model,
                slots=sum(i.ask.spread for i in each),
                vacant=sum(i.free_slots for i in each if i.accepts),
                loading=loading,
            )
            for (model, loading), each in found.items()
        )


@dataclass
class Tally:
    """Counts of a fleet's gateways, and the waits of its requests in seconds."""

    waits: list[float] = field(default_factory=list)
    asked: int = 0
    first: int = 0
    """Requests that were tried at a node that seemed to have room, and those that the first of them served."""
    moved: int = 0
    twice: int = 0
    """Grants that came when the request had been served elsewhere."""
    choosing: int = 0
    hearing: int = 0
    """Nanoseconds of CPU that gateways took to rank nodes, and to take in heartbeats with the moves that follow."""


class SimulatedGateway:
    """A gateway of a fleet: it hears heartbeats, and finds a node for each request as lmxd/fleet/gateway does."""

    def __init__(self, clock: Clock, nodes: dict[str, SimulatedNode], tally: Tally, seed: int, rtt: float) -> None:
        self.clock, self.nodes, self.tally, self.rtt = clock, nodes, tally, rtt
        self.table, self.waiters, self.rng = NodeTable(), Waiters(), random.Random(seed)
        self._ids = itertools.count(1)
        self._name = f"g{seed}"
        self._requests: dict[str, Request] = {}
        """Those that wait, by the ids of their waiters."""
        self._asks: dict[tuple[str, int, int], Ask] = {}

    def hear(self, beat: Heartbeat) -> None:
        begun = time.thread_time_ns()
        news = self.table.hear(beat, self.clock.now)
        moves = self.waiters.moves(self.table, beat.node, self.clock.now) if news else []
        self.tally.hearing += time.thread_time_ns() - begun
        for waiter, prospect in moves:
            self._try_move(self._requests[waiter.id], prospect)

    def arrive(self, job: Job) -> None:
        self._at_once(Request(job, self.clock.now, self))

    def _order(self, request: Request) -> list[Prospect]:
        begun = time.thread_time_ns()
        sought = Sought(model=request.job.model)
        order = ranking(self.table, sought, self.clock.now, self.rng.randrange, besides=request.full)
        self.tally.choosing += time.thread_time_ns() - begun
        return order

    def _at_once(self, request: Request) -> None:
        order = self._order(request)
        if not order or order[0].standing >= Standing.WAITS or request.tries == TRIES:
            self._in_queue(request)
            return
        prospect = order[0]
        self.tally.asked += request.tries == 0
        request.tries += 1

        def refused() -> None:
            request.full.add(prospect.node)
            self._at_once(request)

        self._ask(request, prospect, 0.0, refused)

    def _in_queue(self, request: Request) -> None:
        request.full.clear()
        prospect = self._order(request)[0]
        name = next(self._ids)
        request.waiter = Waiter(
            id=f"{self._name}-{name}",
            sought=Sought(model=request.job.model),
            node=prospect.node,
            since=request.since,
            due=self.clock.now + prospect.eta,
        )
        self._requests[request.waiter.id] = request
        self.waiters.add(request.waiter)
        self._ask(request, prospect, None, lambda: None)

    def _ask(self, request: Request, prospect: Prospect, wait: float | None, refused: Refused) -> TicketId:
        """Send a request to a node, and tell of its refusal after the way back."""
        node, ticket = self.nodes[prospect.node], TicketId(f"{self._name}-{next(self._ids)}")
        sought = Sought(model=request.job.model)
        self.table.asked(sought, prospect, self.clock.now)

        def told() -> None:
            self.table.refused(sought, prospect, self.clock.now)
            request.places.pop(ticket, None)
            refused()

        def arrived() -> None:
            if not request.served:
                node.request(
                    ticket, request, self._ask_of(request.job), wait, lambda: self.clock.later(node.now + half, told)
                )

        half = self.rng.uniform(0.3, 0.7) * self.rtt
        request.places[ticket] = node
        node.later(self.clock.now + half, arrived)
        return ticket

    def _ask_of(self, job: Job) -> Ask:
        key = (job.model, job.size, job.slots)
        if key not in self._asks:
            self._asks[key] = Ask(
                profile=job.model,
                variant="v",
                context=4096,
                slots=1,
                spread=job.slots,
                options=(Option(demand={GPU: job.size}),),
                idle_timeout=next(iter(self.nodes.values())).idle,
            )
        return self._asks[key]

    def granted(self, request: Request, node: SimulatedNode, ticket: TicketId) -> None:
        if request.served:
            self.tally.twice += 1
            node.later(node.now + self.rtt / 2, lambda: node.drop(ticket))
            return
        request.served = True
        if request.waiter is None:
            self.tally.first += request.tries == 1
        else:
            self.waiters.remove(request.waiter)
            self._requests.pop(request.waiter.id)
        self.tally.waits.append(node.now - request.since)
        node.work(ticket, request.job)
        self._drop_others(request, ticket)

    def _drop_others(self, request: Request, kept: TicketId) -> None:
        for ticket, node in list(request.places.items()):
            if ticket != kept:
                del request.places[ticket]
                node.later(self.clock.now + self.rtt / 2, partial(node.drop, ticket))

    def _try_move(self, request: Request, prospect: Prospect) -> None:
        """Ask the other node; once it has not refused for a while, the place here is given up."""
        waiter = request.waiter
        assert waiter is not None
        self.waiters.remove(waiter)

        def stays() -> None:
            if not request.served:
                self.waiters.add(waiter)

        ticket = self._ask(request, prospect, 0.0, stays)

        def taken() -> None:
            if ticket in request.places and not request.served:
                self.tally.moved += 1
                self._drop_others(request, ticket)

        self.clock.later(self.clock.now + TAKEN, taken)


@dataclass(frozen=True, kw_only=True)
class Network:
    """``rtt``: seconds of a question and its answer. Of heartbeats, ``late`` come up to 2 s later, ``lost`` never."""

    rtt: float = 0.004
    late: float = 0.01
    lost: float = 0.02


class Fleet:
    """Nodes, gateways that hear all of them, and jobs that come to the gateways by turns."""

    def __init__(self, sizes: Sequence[int], jobs: list[Job], gateways: int, seed: int, network: Network) -> None:
        self.clock, self.tally, self.beats = Clock(), Tally(), 0
        self._rng, self._network = random.Random(seed), network
        self.nodes: dict[str, SimulatedNode] = {}
        self.gateways: list[SimulatedGateway] = []
        for number, size in enumerate(sizes):
            name = f"n{number}"
            self.nodes[name] = SimulatedNode(self.clock, name, size, self._say, 60.0)
        self.gateways = [SimulatedGateway(self.clock, self.nodes, self.tally, n, network.rtt) for n in range(gateways)]
        models = {job.model: job for job in jobs}
        offered = tuple(
            Offered(model=m, slots=j.slots, needs={GPU: j.size}, load=load_seconds(j.size)) for m, j in models.items()
        )
        for name, node in self.nodes.items():
            for gateway in self.gateways:
                gateway.table.hear_card(
                    NodeCard(node=name, address=f"{name}:1", version="1", started="s", models=offered)
                )
            node.begin(self._rng.uniform(0, PERIOD))
        for number, job in enumerate(jobs):
            gateway = self.gateways[number % gateways]
            self.clock.later(PERIOD + job.at, partial(gateway.arrive, job))

    def _say(self, beat: Heartbeat) -> None:
        self.beats += 1
        for gateway in self.gateways:
            chance = self._rng.random()
            if chance < self._network.lost:
                continue
            way = self._rng.uniform(0.25, 1.0) * self._network.rtt
            if chance < self._network.lost + self._network.late:
                way += self._rng.uniform(0, 2)
            self.clock.later(self.clock.now + way, partial(gateway.hear, beat))
