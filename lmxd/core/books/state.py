"""The state of the core: instances, leases, tickets and the ledger, with their indexes. No policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lmxd.core.books.alarms import AlarmKind, Alarms
from lmxd.core.books.expectations import Expectations
from lmxd.core.books.failed import FailedLaunches
from lmxd.core.books.ledger import Ledger
from lmxd.core.books.lingering import Lingering
from lmxd.core.books.queue import Queue, rank
from lmxd.core.books.reach import Reach
from lmxd.core.books.shares import Shares
from lmxd.core.books.step import Step
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.making_way import Asked, Swap
from lmxd.core.rules import Policy, Resident
from lmxd.core.words import Ask, DeviceId, InstanceId, Kind, LeaseId, Phase, RequestKey, TicketId


@dataclass(slots=True)
class State:
    """All that the core remembers between two events."""

    step: Step = field(default_factory=Step)
    """The event in hand."""
    now: float = 0.0
    policy: Policy = field(default_factory=Policy)
    draining: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    live_by_kind: dict[Kind, dict[InstanceId, Instance]] = field(default_factory=dict)
    """Live instances by kind."""
    with_free_slots: dict[Kind, dict[InstanceId, Instance]] = field(default_factory=dict)
    """Live instances by kind that accept new leases and have a free slot."""
    leases: dict[LeaseId, Lease] = field(default_factory=dict)
    keys: dict[RequestKey, Lease] = field(default_factory=dict)
    """Leases by uid and idempotency key."""
    asked: dict[RequestKey, Ticket] = field(default_factory=dict)
    """Tickets by the same: one at most."""
    priorities: dict[int, int] = field(default_factory=dict)
    """The number of leases of each class."""
    tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    """All requests that are not answered, whether they wait in the queue or for an instance that starts."""
    queue: Queue = field(default_factory=Queue)
    shares: Shares = field(default_factory=Shares)
    alarms: Alarms = field(default_factory=Alarms)
    reach: Reach = field(default_factory=Reach)
    expectations: Expectations = field(default_factory=Expectations)
    failed: FailedLaunches = field(default_factory=FailedLaunches)
    residents: dict[Kind, Resident] = field(default_factory=dict)
    preloaded: set[str] = field(default_factory=set)
    overcommitted_since: dict[DeviceId, float] = field(default_factory=dict)
    """Devices with a negative headroom, and since when."""
    displaced: list[Ask] = field(default_factory=list)
    """Asks of pinned instances that were stopped for a yield, to be started again after it."""
    evicted_at: dict[Kind, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Counters since the start: ``instances …`` by profile for their ids; ``thrash``, ``backfilled``, ``slept``, …"""
    swapping: dict[InstanceId, Instance] = field(default_factory=dict)
    """Instances with a swap: they are to make way for a ticket."""
    measuring: dict[InstanceId, Instance] = field(default_factory=dict)
    """Starting instances whose engines measure what is free on their devices."""
    vacant: dict[InstanceId, Instance] = field(default_factory=dict)
    """Live instances without leases and tickets."""
    lingering: Lingering = field(default_factory=Lingering)
    released_holds: dict[InstanceId, Instance] = field(default_factory=dict)
    """Holds among the vacant: their lease is over."""
    leaving: dict[InstanceId, Instance] = field(default_factory=dict)
    """Instances that are stopping, reclaiming or falling asleep: their bytes are not seen free yet."""
    asleep: dict[InstanceId, Instance] = field(default_factory=dict)
    residues: dict[str, int] = field(default_factory=dict)
    """By profile: the most bytes of a card that stay in use while an instance sleeps, as the last one was seen."""
    impatient: dict[TicketId, Ticket] = field(default_factory=dict)
    """Tickets that do not wait: they are refused if they cannot be served at once."""
    yielding: dict[InstanceId, Instance] = field(default_factory=dict)
    """Instances whose holders were asked to yield."""
    tick_at: float | None = None
    """The time of the next tick, at which ranks, dates and reports are brought up to date; None while no request waits.
    """
    told_to: int = 0
    """The position up to which the last tick reported to clients far behind in the queue."""
    head: Ticket | None = None
    """The first ticket that waited for bytes when the queue was last looked at."""

    def lease(self, lease: LeaseId) -> Lease | None:
        return self.leases.get(lease)

    def ticket(self, ticket: TicketId) -> Ticket | None:
        """A waiting or starting ticket."""
        return self.tickets.get(ticket)

    def waiting(self, ticket: TicketId) -> Ticket | None:
        """A ticket in the queue; None if it is unknown, or its instance is starting."""
        found = self.tickets.get(ticket)
        return found if found is not None and found.instance is None else None

    def linger(self, instance: Instance, *, on: bool) -> None:
        """Let the last lease of an instance go on counting, or no more."""
        change = self.lingering.begin if on else self.lingering.end
        change(instance, self.shares, self.now, self.policy)

    def _take_over(self, instance: Instance) -> None:
        """Note that somebody has an instance from now on, or nobody any more."""
        self.linger(instance, on=False)
        instance.last_use = None

    def lives(self, name: str) -> bool:
        """Whether there is a ticket, a lease or an instance of that id."""
        return name in self.instances or name in self.leases or name in self.tickets

    def able(self, ask: Ask) -> list[Instance]:
        """The live instances that could serve ``ask``, if they have or will have a slot for it. A stray may never."""
        return [i for i in self.live_by_kind.get(ask.kind, {}).values() if i.could_serve(ask) and not i.strays]

    def among(self, names: Iterable[str]) -> list[Instance]:
        """The instances that there are of these names."""
        return [i for name in names if (i := self.instances.get(InstanceId(name))) is not None]

    def enqueue(self, ticket: Ticket) -> None:
        self.tickets[ticket.id] = ticket
        if ticket.key is not None:
            self.asked[ticket.owner.uid, ticket.key] = ticket
        self.queue.add(ticket)
        self.shares.wait(ticket.owner, self.now, 1)

    def promise(self, ticket: Ticket) -> None:
        """Note that instances have ended for a waiting ticket, which is to have their bytes."""
        if not ticket.promised:
            ticket.promised = True
            self.queue.rank_anew(((ticket, rank(ticket, self.policy, 0.0)),))

    def attach(self, ticket: Ticket, instance: Instance) -> None:
        """Move a ticket from the queue to an instance. It counts for quotas as a lease from here on."""
        self._unqueue(ticket)
        ticket.instance = instance.id
        self._take_over(instance)
        instance.tickets[ticket.id] = ticket
        self._note_room(instance)
        self.shares.take(ticket.owner, ticket.ask.portion, self.now, self.policy)

    def drop_ticket(self, ticket: Ticket) -> None:
        """Remove a ticket from the queue or from its instance, with all that counts for it."""
        del self.tickets[ticket.id]
        if ticket.key is not None and self.asked.get((ticket.owner.uid, ticket.key)) is ticket:
            del self.asked[ticket.owner.uid, ticket.key]
        self.impatient.pop(ticket.id, None)
        for kind in (AlarmKind.WAIT, AlarmKind.DEADLINE, AlarmKind.CARRY):
            self.alarms.clear((kind, ticket.id))
        if ticket.instance is None:
            self._unqueue(ticket)
        else:
            instance = self.instances[ticket.instance]
            del instance.tickets[ticket.id]
            self._note_room(instance)
            self.shares.give_back(ticket.owner, ticket.ask.portion, self.now, self.policy)

    def _unqueue(self, ticket: Ticket) -> None:
        self.queue.remove(ticket)
        self.shares.wait(ticket.owner, self.now, -1)

    def add_lease(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        if lease.key is not None:
            self.keys[lease.owner.uid, lease.key] = lease
        self.priorities[lease.priority] = self.priorities.get(lease.priority, 0) + 1
        if lease.parked is None:
            self._seat(lease, self.instances[lease.instance])
        self.shares.take(lease.owner, lease.size, self.now, self.policy)
        self.step.touched.leases.add(lease.id)

    def _seat(self, lease: Lease, instance: Instance) -> None:
        self._take_over(instance)
        instance.leases[lease.id] = lease
        instance.served.add(lease.owner.uid)
        instance.rested = False
        self._note_room(instance)

    def unseat(self, lease: Lease) -> None:
        """Take a lease from its instance."""
        instance = self.instances[lease.instance]
        del instance.leases[lease.id]
        self._note_room(instance)
        self.step.touched.leases.add(lease.id)

    def expire(self, lease: Lease, at: float | None) -> None:
        """Let a lease end at ``at`` unless it is renewed; None: it does not end by itself."""
        lease.expires_at = at
        if at is None:
            self.alarms.clear((AlarmKind.LEASE, lease.id))
        else:
            self.alarms.set((AlarmKind.LEASE, lease.id), at)

    def drop_lease(self, lease: Lease) -> None:
        del self.leases[lease.id]
        if lease.key is not None and self.keys.get((lease.owner.uid, lease.key)) is lease:
            del self.keys[lease.owner.uid, lease.key]
        self.priorities[lease.priority] -= 1
        if not self.priorities[lease.priority]:
            del self.priorities[lease.priority]
        if lease.parked is None:
            self.unseat(lease)
        self.alarms.clear((AlarmKind.LEASE, lease.id))
        self.shares.give_back(lease.owner, lease.size, self.now, self.policy)
        self.step.touched.leases.add(lease.id)

    def add_instance(self, instance: Instance) -> None:
        self.instances[instance.id] = instance
        self.ledger.reserve(instance.id, instance.demand)
        _put(self.measuring, instance, instance.phase is Phase.STARTING and instance.ask.measures > 0)
        self.enliven(instance)

    def enliven(self, instance: Instance) -> None:
        """Enter an instance that starts, or wakes, into all indexes of live ones."""
        self.live_by_kind.setdefault(instance.ask.kind, {})[instance.id] = instance
        self._note_room(instance)
        self.step.touched.instances.add(instance.id)

    def _note_room(self, instance: Instance) -> None:
        """Bring ``vacant``, ``released_holds``, ``with_free_slots`` and ``reach`` up to date with an instance."""
        self.reach.touch(instance.demand)
        unused = instance.vacant and instance.live
        _put(self.vacant, instance, unused)
        if instance.ask.external:
            _put(self.released_holds, instance, unused)
            return
        kind = instance.ask.kind
        kin = self.with_free_slots.setdefault(kind, {})
        _put(kin, instance, instance.free_slots > 0 and instance.accepts)
        if not kin:
            del self.with_free_slots[kind]

    def loaded(self, instance: Instance) -> None:
        """Note that an instance does not load any more: others may be evicted beside it."""
        self.step.serve_again |= self.measuring.pop(instance.id, None) is not None
        self.reach.touch(instance.demand)

    def forget(self, instance: InstanceId) -> None:
        """Remove an instance whose bytes are free."""
        del self.instances[instance]
        self.reach.touch(self.leaving.pop(instance).demand)
        self.step.touched.instances.add(instance)

    def retire(self, instance: Instance) -> None:
        """Remove an instance from all indexes of live ones."""
        self.leaving[instance.id] = instance
        self.asleep.pop(instance.id, None)
        self.alarms.clear((AlarmKind.SLEEP, instance.id))
        self.loaded(instance)
        self.step.touched.instances.add(instance.id)
        self.yielding.pop(instance.id, None)
        instance.yielding = None
        self._take_over(instance)
        self.drop_swap(instance)
        kin = self.live_by_kind.get(instance.ask.kind, {})
        kin.pop(instance.id, None)
        for other in kin.values():
            self.reach.touch(other.demand)  # it may be kept (``keep``) now
        if not kin:
            self.live_by_kind.pop(instance.ask.kind, None)

    def put_swap(self, instance: Instance, swap: Swap, *, closed: bool) -> None:
        """Let an instance make way for a ticket; ``closed``: it accepts no new requests."""
        changed, instance.swap, instance.closed = closed != instance.closed, swap, closed
        self.swapping[instance.id] = instance
        if changed:
            self.step.closed_kinds.add(instance.ask.kind)
            self._note_room(instance)

    def drop_swap(self, instance: Instance) -> None:
        """Cancel a swap: the instance stays, and accepts new requests."""
        instance.swap, instance.closed = None, False
        self.swapping.pop(instance.id, None)
        self.alarms.clear((AlarmKind.SWAP, instance.id))
        self._note_room(instance)

    def note_yielding(self, instance: Instance, asked: Asked | None) -> None:
        """Note that the holders of an instance were asked to yield it, or (None) may keep it."""
        instance.yielding = asked
        if asked is None:
            self.yielding.pop(instance.id, None)
        else:
            self.yielding[instance.id] = instance
            self.step.closed_kinds.add(instance.ask.kind)
        self._note_room(instance)

    def new_instance_id(self, profile: str) -> InstanceId:
        self.counts[f"instances {profile}"] += 1
        return InstanceId(f"{profile}#{self.counts[f'instances {profile}']}")


def _put(index: dict[InstanceId, Instance], instance: Instance, belongs: bool) -> None:
    if belongs:
        index[instance.id] = instance
    else:
        index.pop(instance.id, None)
