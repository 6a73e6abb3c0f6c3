"""What the core remembers: instances, leases, the queue and the ledger. Looking things up, no policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmxd.core.decisions import Decision
from lmxd.core.ledger import Ledger
from lmxd.core.words import (
    Ask,
    Demand,
    Hold,
    InstanceId,
    LeaseId,
    Owner,
    Phase,
    TicketId,
)

EVIDENCE_MAX_AGE = 0.5
"""Seconds for which an engine's word that it is idle is believed when stopping it is at stake."""


@dataclass(kw_only=True, slots=True)
class Ticket:
    """One request that has not been answered."""

    id: TicketId
    lease: LeaseId
    owner: Owner
    ask: Ask
    hold: Hold
    ttl: float | None
    asked_at: float
    expires_at: float | None
    told: object = None

    @property
    def patient(self) -> bool:
        return self.expires_at is None or self.expires_at > self.asked_at


@dataclass(kw_only=True, slots=True)
class Lease:
    """A client's right to use an instance."""

    id: LeaseId
    instance: InstanceId
    owner: Owner
    hold: Hold
    slots: int
    granted_at: float
    ttl: float | None
    expires_at: float | None


@dataclass(kw_only=True, slots=True)
class Instance:
    """One start of one engine process."""

    id: InstanceId
    ask: Ask
    demand: Demand
    phase: Phase
    started_at: float
    ready_at: float | None = None
    active_at: float
    busy: bool = False
    checked_at: float | None = None
    checking: bool = False
    tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)

    @property
    def free_slots(self) -> int:
        taken = sum(t.ask.slots for t in self.tickets.values()) + sum(x.slots for x in self.leases.values())
        return self.ask.spread - taken

    @property
    def vacant(self) -> bool:
        """Nobody has or awaits a lease on it."""
        return not self.tickets and not self.leases

    def serves(self, ask: Ask) -> bool:
        """Whether a further lease for ``ask`` could be carried, at no bytes."""
        mine = self.ask
        return (
            self.phase in (Phase.STARTING, Phase.READY)
            and (mine.profile, mine.variant) == (ask.profile, ask.variant)
            and mine.context >= ask.context
            and self.free_slots >= ask.slots
        )

    def known_idle(self, now: float) -> bool:
        """Whether there is fresh evidence that no request is in flight. One that never was ready has none."""
        if self.phase is Phase.STARTING:
            return True
        return not self.busy and self.checked_at is not None and now - self.checked_at <= EVIDENCE_MAX_AGE


@dataclass(slots=True)
class State:
    """Everything, and ``outbox``: the decisions of the event in hand."""

    now: float = 0.0
    queue_depth: int = 5
    enforce: bool = True
    draining: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    queue: dict[TicketId, Ticket] = field(default_factory=dict)
    """Waiting tickets, oldest first."""
    starts: dict[str, int] = field(default_factory=dict)
    outbox: list[Decision] = field(default_factory=list)

    def leases(self) -> Iterator[Lease]:
        return (lease for i in self.instances.values() for lease in i.leases.values())

    def lease(self, lease: LeaseId) -> Lease | None:
        return next((i.leases[lease] for i in self.instances.values() if lease in i.leases), None)

    def ticket(self, ticket: TicketId) -> Ticket | None:
        """A waiting or starting ticket."""
        if ticket in self.queue:
            return self.queue[ticket]
        return next((i.tickets[ticket] for i in self.instances.values() if ticket in i.tickets), None)

    def drop_ticket(self, ticket: TicketId) -> None:
        """Take a ticket out of wherever it is."""
        self.queue.pop(ticket, None)
        for instance in self.instances.values():
            instance.tickets.pop(ticket, None)

    def new_instance_id(self, profile: str) -> InstanceId:
        self.starts[profile] = self.starts.get(profile, 0) + 1
        return f"{profile}#{self.starts[profile]}"
