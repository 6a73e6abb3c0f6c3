"""A small world around the core: devices with real arithmetic, processes that take and give back bytes, a clock.

Every event goes through ``World.happen``, which checks the invariants and what each decision may do.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

from lmxd.core.admission import Admission
from lmxd.core.books.accounts import Account
from lmxd.core.decisions import (
    Decision,
    GrantLease,
    MoveLease,
    RefuseLease,
    SaveConversation,
    SleepInstance,
    StartInstance,
    StopInstance,
    WakeInstance,
)
from lmxd.core.events import (
    ActivitySeen,
    ClientLeft,
    ContextSeen,
    ConversationCarried,
    ConversationSaved,
    Event,
    GrowthRequested,
    InstanceExited,
    InstanceReady,
    InstanceSlept,
    LeaseReleased,
    LeaseRequested,
    LedgerRestored,
    MemoryMeasured,
    SleepFailed,
    TicketCancelled,
    TimePassed,
)
from lmxd.core.holders import own_ticket
from lmxd.core.instances import Instance
from lmxd.core.invariants import broken
from lmxd.core.moves import Carry
from lmxd.core.orders import PolicyChanged, StopRequested, YieldRequested
from lmxd.core.rules import Policy
from lmxd.core.words import (
    NO_CONNECTION,
    Ask,
    Cause,
    ConnectionId,
    DeviceId,
    DeviceReading,
    Elsewhere,
    Failure,
    Hold,
    InstanceId,
    LeaseId,
    Option,
    Owner,
    Phase,
    Taken,
    TicketId,
    User,
    YieldId,
)

GIB = 2**30
D = TypeVar("D", bound=Decision)


@dataclass
class Gpu:
    """Physical memory: what each process really has."""

    capacity: int
    margin: int = 0
    limit: int | None = None
    foreign: int = 0
    lingering: int = 0
    """Bytes of dead processes that the driver has not given back."""
    processes: dict[str, int] = field(default_factory=dict)
    unavailable: str | None = None
    attributes: bool = True
    lags: bool = True
    pool: str | None = None
    always_views: tuple[DeviceId, ...] = ()
    """Of a pool: devices that draw from it, whether or not they are read."""

    def taken(self) -> dict[InstanceId, Taken]:
        """What a reading says of each process."""
        return {InstanceId(i): Taken(total=n, visible=n) for i, n in self.processes.items()}

    def others(self) -> int:
        """Bytes in use that no process of ours has."""
        return self.foreign + self.lingering

    def used(self) -> int:
        return self.others() + sum(x.visible for x in self.taken().values())

    def reading(self, name: str) -> DeviceReading:
        if self.unavailable:
            return DeviceReading(device=DeviceId(name), unavailable=self.unavailable)
        return DeviceReading(
            device=DeviceId(name),
            capacity=self.capacity,
            margin=self.margin,
            limit=self.limit,
            lags=self.lags,
            used=self.used(),
            taken=self.taken() if self.attributes else None,
            pool=None if self.pool is None else DeviceId(self.pool),
            views=self.always_views,
        )


@dataclass
class Pool(Gpu):
    """Physical memory that ``views`` share. Its own ``foreign`` bytes are those of programs that use none of them."""

    views: tuple[Gpu, ...] = ()
    always_views: tuple[DeviceId, ...] = (DeviceId("host"),)

    def taken(self) -> dict[InstanceId, Taken]:
        total: Counter[str] = Counter()
        for view in self.views:
            total.update(view.processes)
        return {InstanceId(i): Taken(total=n, visible=n) for i, n in total.items()}

    def others(self) -> int:
        return self.foreign + self.lingering + sum(view.foreign + view.lingering for view in self.views)


@dataclass
class Ram(Gpu):
    """RAM as a view: without what GPUs have of it, and with the bytes of programs that use no GPU."""

    whole: Pool = field(default_factory=lambda: Pool(capacity=0))

    def others(self) -> int:
        return self.whole.foreign + self.foreign + self.lingering


def unified(gib: int, *, margin: int = 1) -> dict[str, Gpu]:
    """A machine whose GPU has no memory of its own."""
    gpu = Gpu(capacity=gib * GIB, pool="memory")
    ram = Ram(capacity=gib * GIB, pool="memory", lags=False)
    memory = ram.whole = Pool(capacity=gib * GIB, margin=margin * GIB, views=(gpu, ram))
    return {"gpu": gpu, "host": ram, "memory": memory}


class World:
    def __init__(self, devices: Mapping[str, Gpu] | None = None, **rules: Any) -> None:
        self.devices = dict(devices or {"gpu": Gpu(capacity=24 * GIB)})
        self.admission = Admission()
        self.state = self.admission.state
        self.now = 0.0
        self.log: list[Decision] = []
        self.answered: Counter[str] = Counter()
        self.asked: list[TicketId] = []
        self._unanswered: set[TicketId] = set()
        self.forgotten: set[TicketId] = set()
        """The requests whose clients were not answered, since lmxd was killed."""
        self.forced: set[str] = set()
        self._ids = itertools.count(1)
        self.happen(PolicyChanged(at=0.0, policy=Policy(**rules)))
        self.measure()

    # events

    def happen(self, event: Event) -> list[Decision]:
        decisions = self.admission.handle(event).decisions
        for decision in decisions:
            self._check(decision)
        self.log += decisions
        wrong = broken(self.state)
        assert not wrong, f"{wrong} after {type(event).__name__}"
        for ticket in [t for t in self._unanswered if self.answered[t]]:
            self._unanswered.remove(ticket)
        waiting = {t.id for t in self.state.tickets.values() if not t.is_nobodys}
        assert self._unanswered == waiting, "who waits is not who was not answered"
        return decisions

    def _check(self, decision: Decision) -> None:
        if isinstance(decision, StopInstance | SleepInstance):
            self._check_undisturbed(decision)
        match decision:
            case GrantLease():
                self._answer(decision.ticket)
                assert self.state.instances[decision.instance].phase is Phase.READY
            case MoveLease():
                if decision.ticket != own_ticket(decision.lease):
                    self._answer(decision.ticket)
                moved = self.state.leases[decision.lease]
                assert moved.instance == decision.instance, "it was told that it is elsewhere"
                assert self.state.instances[decision.instance].phase is Phase.READY
            case RefuseLease():
                self._answer(decision.ticket)
            case StopInstance(cause=Cause.EVICTED | Cause.UNWANTED | Cause.PRESSURE | Cause.PREEMPTED):
                stopped = self.state.instances[decision.instance]
                stays = 0.0 if stopped.is_anybodys else self.state.policy.grace
                left = self.now - stopped.vacant_since >= stays and not stopped.leases
                beyond = not stopped.leases and "beyond a quota" in decision.why
                assert not stopped.busy or left or beyond, "evicted with a request in flight"
            case StopInstance(cause=Cause.IDLE | Cause.GROWN | Cause.SHRUNK):
                assert not self.state.instances[decision.instance].busy, "reaped with a request in flight"
            case StartInstance():
                for device, need in decision.option.demand.items():
                    if self.state.policy.enforce:
                        account = self.state.ledger.accounts[device]
                        assert account.headroom >= 0, "more promised than there is"
                        assert need <= account.ceiling

    def _check_undisturbed(self, goes: StopInstance | SleepInstance) -> None:
        """Nothing of ours ends or falls asleep beside an engine that measures, but for an administrator, or after its
        time."""
        put_off = {Cause.IDLE, Cause.EVICTED, Cause.UNWANTED, Cause.PREEMPTED}
        cause = goes.cause if isinstance(goes, StopInstance) else Cause.EVICTED
        mine = self.state.instances[goes.instance]
        if any(self.state.ledger.accounts[device].yields for device in mine.demand):
            return
        for other in self.state.instances.values():
            begun = other.started_at if other.load_at is None else other.load_at
            measures = other.phase is Phase.STARTING and not other.postponed and begun < self.now
            if other is not mine and measures and self.now < begun + other.ask.measures and cause in put_off:
                takes = mine.ask.sleeps if isinstance(goes, SleepInstance) else {}
                frees = mine.demand.keys() - takes.keys()
                assert frees.isdisjoint(other.demand), f"{mine.id} disturbs {other.id}"

    def _answer(self, ticket: str) -> None:
        self.answered[ticket] += 1
        assert self.answered[ticket] == 1, f"{ticket} is answered twice"

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def tick(self, seconds: float = 0.0) -> list[Decision]:
        self.pass_time(seconds)
        return self.happen(TimePassed(at=self.now))

    def measure(self) -> list[Decision]:
        self.pass_time(0.001)
        readings = tuple(gpu.reading(name) for name, gpu in self.devices.items())
        return self.happen(MemoryMeasured(at=self.now, begun=self.now, readings=readings))

    def ask(
        self,
        model: str = "m",
        gib: float | Mapping[str, float] = 8,
        *,
        connection: int | None = None,
        wait: float | None = None,
        hold: Hold = Hold.CONNECTION,
        ttl: float | None = None,
        context: int = 4096,
        slots: int = 1,
        spread: int = 1,
        priority: int = 0,
        pin: bool = False,
        idle_timeout: float = 300.0,
        variant: str = "v",
        uid: int = 1000,
        pid: int | None = None,
        user: str = "",
        gids: tuple[int, ...] = (),
        share: bool = True,
        external: bool = False,
        elastic: bool = False,
        unified: bool = False,
        idle_shrink: float = inf,
        max_instances: int | None = None,
        measures: float = 0.0,
        begun: float = 1.0,
        deadline: float | None = None,
        options: tuple[Option, ...] | None = None,
        key: str | None = None,
        near: str | None = None,
        apart: Iterable[str] = (),
        private_to: User | None = None,
        sleeps: float | None = None,
        waited: float = 0.0,
        elsewhere: Elsewhere | None = None,
        asked_at: float | None = None,
    ) -> TicketId:
        """Ask for a lease that takes ``gib`` on any one device, or just those given; returns the ticket."""
        number = next(self._ids)
        ticket = TicketId(f"t{number}")
        sizes = dict.fromkeys(self.places(), gib) if isinstance(gib, (int, float)) else gib
        singles = tuple(self.placed({name: int(size * GIB)}) for name, size in sizes.items())
        self.asked.append(ticket)
        self._unanswered.add(ticket)
        self.happen(
            LeaseRequested(
                at=self.now,
                ticket=ticket,
                lease=lease_of(ticket),
                owner=Owner(
                    uid=uid,
                    pid=number if pid is None else pid,
                    connection=ConnectionId(number if connection is None else connection),
                    gids=gids,
                    user=user,
                ),
                ask=Ask(
                    profile=model,
                    variant=variant,
                    context=context,
                    slots=slots,
                    spread=max(spread, slots),
                    options=singles if options is None else options,
                    priority=priority,
                    pin=pin,
                    idle_timeout=idle_timeout,
                    share=share,
                    max_instances=max_instances,
                    external=external,
                    elastic=elastic,
                    unified=unified,
                    idle_shrink=idle_shrink,
                    private_to=private_to,
                    sleeps=self.placed({"host": int(sleeps * GIB)}).demand if sleeps else {},
                    measures=measures,
                    begun=begun,
                ),
                hold=hold,
                ttl=ttl,
                wait=wait,
                deadline=deadline,
                key=key,
                waited=waited,
                elsewhere=elsewhere,
                asked_at=asked_at,
                near=None if near is None else InstanceId(near),
                apart=frozenset(InstanceId(name) for name in apart),
            )
        )
        return ticket

    def grow(
        self,
        ticket: str,
        gib: float | Mapping[str, float] = 12,
        *,
        context: int = 16384,
        slot: int | None = 0,
        apart: Iterable[str] = (),
        connection: int | None = None,
        wait: float | None = None,
        deadline: float | None = None,
        **other: Any,
    ) -> TicketId:
        """The holder of the lease that ``ticket`` got wants more context; ``slot`` has its conversation."""
        growth, lease = TicketId(f"t{next(self._ids)}"), self.state.leases[lease_of(ticket)]
        mine = self.state.instances[lease.instance].ask if lease.parked is None else lease.parked.back
        sizes = dict.fromkeys(self.places(), gib) if isinstance(gib, (int, float)) else gib
        singles = tuple(self.placed({name: int(size * GIB)}) for name, size in sizes.items())
        self.asked.append(growth)
        self._unanswered.add(growth)
        asks = connection if connection is not None else lease.owner.connection
        self.happen(
            GrowthRequested(
                at=self.now,
                ticket=growth,
                lease=lease.id,
                owner=replace(lease.owner, connection=ConnectionId(asks)),
                ask=replace(mine, context=context, options=singles, **{"spread": 1, **other}),
                carry=None if slot is None else Carry(instance=lease.instance, slot=slot),
                apart=frozenset(InstanceId(name) for name in apart),
                wait=wait,
                deadline=deadline,
            )
        )
        return growth

    def carried(self, ticket: str, slot: int | None = 0) -> None:
        """The conversation of a growth lies in a slot of its new instance, or could not be carried."""
        found = self.state.tickets.get(TicketId(ticket))
        slots = [None if slot is None else slot + n for n in range(0 if found is None else len(found.carries))]
        self.happen(ConversationCarried(at=self.now, ticket=TicketId(ticket), slots=tuple(slots)))

    def saved(self, instance: str, *, lost: bool = False) -> None:
        """The conversations of an instance that is to end lie in files, or could not be saved."""
        told = [x for x in self.all(SaveConversation) if x.instance == instance]
        slots = told[-1].slots if told else frozenset((0,))
        carries = () if lost else tuple(self.kept(instance, slot) for slot in sorted(slots))
        self.happen(ConversationSaved(at=self.now, instance=InstanceId(instance), slots=slots, carries=carries))

    def kept(self, instance: str, slot: int = 0) -> Carry:
        """What was saved of a slot of an instance."""
        known = self.state.instances.get(InstanceId(instance))
        name = f"{instance}-{slot}.bin" if slot else f"{instance}.bin"
        spread = 1 if known is None else known.ask.spread
        return Carry(instance=InstanceId(instance), slot=slot, file=name, spread=spread)

    def needs_less(self, instance: str, gib: float | None, context: int = 4096, spread: int | None = None) -> None:
        """Less context, which takes ``gib`` on each device, is enough for an instance. None: it needs what it has."""
        mine = self.instance(instance)
        options = () if gib is None else (replace(mine.option, demand=dict.fromkeys(mine.demand, int(gib * GIB))),)
        slots = spread or mine.ask.spread
        smaller = None if gib is None else replace(mine.ask, context=context, spread=slots, options=options)
        self.happen(ContextSeen(at=self.now, instance=InstanceId(instance), smaller=smaller))

    def ready(self, instance: str, takes: float | None = None, more: float = 1.0) -> None:
        """It loaded, and takes ``more`` times what was promised, or ``takes`` GiB."""
        for device, need in self.instance(instance).option.devices.items():
            self.devices[device].processes[instance] = int(need * more if takes is None else takes * GIB)
        self.measure()
        self.happen(InstanceReady(at=self.now, instance=InstanceId(instance)))

    def slept(self, instance: str, leaves: float = 0.5, ram: float | None = None) -> None:
        """Its engine sleeps: ``leaves`` of its GiB stay on each card, and its weights, or ``ram`` GiB, are in RAM."""
        found = self.instance(instance)
        for device in found.cards:
            had = self.devices[device].processes.get(instance, 0)
            self.devices[device].processes[instance] = min(had, int(leaves * GIB))
        host = self.devices["host"].processes
        host[instance] = found.demand[DeviceId("host")] if ram is None else int(ram * GIB)
        self.happen(InstanceSlept(at=self.now, instance=InstanceId(instance)))

    def sleeps(self, instance: str, leaves: float = 0.5) -> None:
        """It slept, and two readings show it."""
        self.slept(instance, leaves)
        self.measure()
        self.measure()

    def woke(self, instance: str) -> None:
        """It is awake again, with all that it had; it gives no RAM back."""
        for device, need in self.instance(instance).cards.items():
            self.devices[device].processes[instance] = need
        self.measure()
        self.happen(InstanceReady(at=self.now, instance=InstanceId(instance)))

    def sleep_failed(self, instance: str) -> None:
        """It did not fall asleep as told, or did not wake."""
        failure = Failure(code="sleep_failed", message="it did not")
        self.happen(SleepFailed(at=self.now, instance=InstanceId(instance), failure=failure))

    def exited(self, instance: str, failure: Failure | None = None, *, lingers: bool = False) -> None:
        for gpu in self.devices.values():
            left = gpu.processes.pop(instance, 0)
            gpu.lingering += left if lingers else 0
        self.happen(InstanceExited(at=self.now, instance=InstanceId(instance), failure=failure))

    def gone(self, instance: str) -> None:
        """It exited and the device shows it."""
        self.exited(instance)
        self.measure()

    def release(self, ticket: str) -> None:
        self.happen(LeaseReleased(at=self.now, lease=lease_of(ticket)))

    def seen(self, instance: str, *, busy: bool = False, worked: bool = False, guessed: bool = False) -> None:
        seen = InstanceId(instance)
        self.happen(ActivitySeen(at=self.now, instance=seen, busy=busy, worked=worked, guessed=guessed))

    def stop(self, instance: str) -> None:
        """An administrator stops it."""
        self.happen(StopRequested(at=self.now, instance=InstanceId(instance)))

    def cancel(self, ticket: str) -> None:
        self.happen(TicketCancelled(at=self.now, ticket=TicketId(ticket)))

    def leave(self, connection: int) -> None:
        self.happen(ClientLeft(at=self.now, connection=ConnectionId(connection)))

    def give_way(self, size: int, lasts: float, device: str = "gpu", id: str = "y") -> None:
        """An administrator wants so many bytes kept free for others."""
        self.happen(YieldRequested(at=self.now, id=YieldId(id), device=DeviceId(device), size=size, lasts=lasts))

    def restart(self) -> None:
        """lmxd is killed and started again: instances that were not ready end, and the requests are forgotten."""
        state, policy = self.state, self.state.policy
        self.forgotten |= state.tickets.keys()
        self._unanswered.clear()
        self.admission = Admission()
        self.state = self.admission.state
        self.happen(PolicyChanged(at=self.now, policy=policy))
        adopted = (Phase.READY, Phase.ASLEEP)
        rows = [
            Instance(
                id=i.id,
                ask=i.ask,
                option=i.option,
                phase=i.phase if i.phase in adopted else Phase.STOPPING,
                started_at=i.started_at,
                ready_at=i.ready_at,
                active_at=i.active_at,
            )
            for i in state.instances.values()
        ]
        held = [
            replace(x, owner=replace(x.owner, connection=NO_CONNECTION), growing=None) for x in state.leases.values()
        ]
        counts = {name: count for name, count in state.counts.items() if name.startswith("instances ")}
        self.happen(
            LedgerRestored(at=self.now, instances=tuple(rows), leases=tuple(held), yields=(), counts=counts, grace=30.0)
        )
        self.measure()
        for row in rows:
            if row.phase not in adopted:
                self.exited(row.id)

    # the devices

    def places(self) -> list[str]:
        """The devices on which an instance can be placed."""
        return [name for name, device in self.devices.items() if not isinstance(device, Pool)]

    def placed(self, demand: Mapping[str, int], **how: Any) -> Option:
        """An option that takes so many bytes of each device, and of the pools that these share."""
        pools: Counter[str] = Counter()
        for name, need in demand.items():
            pool = self.devices[name].pool if name in self.devices else None
            pools.update({} if pool is None else {pool: need})
        return placed({**demand, **pools}, pools=tuple(map(DeviceId, pools)), **how)

    # what came of it

    def instance(self, name: str) -> Instance:
        return self.state.instances[InstanceId(name)]

    def account(self, device: str = "gpu") -> Account:
        return self.state.ledger.accounts[DeviceId(device)]

    def last(self, kind: type[D]) -> D:
        return next(x for x in reversed(self.log) if isinstance(x, kind))

    def all(self, kind: type[D]) -> list[D]:
        return [x for x in self.log if isinstance(x, kind)]

    def started(self) -> list[str]:
        return [x.instance for x in self.log if isinstance(x, StartInstance)]

    def stopped(self) -> list[tuple[str, str]]:
        return [(x.instance, x.cause.value) for x in self.log if isinstance(x, StopInstance)]

    def granted(self) -> list[str]:
        return [x.ticket for x in self.log if isinstance(x, GrantLease)]

    def slumbers(self) -> list[tuple[str, str]]:
        """Who was put to sleep, or woken, in order."""
        kinds = (SleepInstance, WakeInstance)
        return [(x.instance, type(x).__name__[:-8].lower()) for x in self.log if isinstance(x, kinds)]

    def refused(self) -> dict[str, str]:
        return {x.ticket: x.refusal.code for x in self.log if isinstance(x, RefuseLease)}

    def moves(self) -> list[tuple[str, str, str, int | None]]:
        """Which lease moved, from where to where, and the slot that its conversation lies in."""
        return [(x.lease, x.before, x.instance, x.slot) for x in self.log if isinstance(x, MoveLease)]

    def home(self, ticket: str) -> str:
        """The instance on which the lease of a ticket is."""
        return self.state.leases[lease_of(ticket)].instance

    def waiting(self) -> list[str]:
        return [ticket.id for ticket in self.state.queue]

    def headroom(self, device: str = "gpu") -> float:
        return self.account(device).headroom / GIB


def lease_of(ticket: str) -> LeaseId:
    return LeaseId(f"l{ticket[1:]}")


def placed(demand: Mapping[str, int], **how: Any) -> Option:
    """An option that takes so many bytes of each device."""
    return Option(demand={DeviceId(device): need for device, need in demand.items()}, **how)
