"""Tickets and leases: a request, and the right that it is granted."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.moves import Carry, Parked
from lmxd.core.words import Ask, Group, Hold, InstanceId, LeaseId, Owner, TicketId


@dataclass(kw_only=True, slots=True, eq=False)
class Ticket:
    """One request that has not been answered. ``number`` counts requests; ``instance`` is set when it starts."""

    id: TicketId
    number: int
    lease: LeaseId
    owner: Owner
    ask: Ask
    hold: Hold
    ttl: float | None
    asked_at: float
    wait: float | None
    deadline_at: float | None
    key: str | None = None
    digest: str | None = None
    """A digest of what was asked under ``key``."""
    rank: float = 0.0
    first_asked_at: float | None = None
    """The time at which it asked another node, before it came here."""
    queued_at: float | None = None
    """The time from which it is ranked, if later than ``asked_at``: instances of its kind have just had their turn."""
    instance: InstanceId | None = None
    room_being_made: bool = False
    """Idle instances are being stopped for it, so that it counts as being served."""
    promised: bool = False
    """Instances have ended for it. Later requests of its class do not get their bytes, however little their users used.
    """
    near: InstanceId | None = None
    """The instance that comes before others, if it has a free slot for it: it has processed most of its prompt."""
    apart: frozenset[InstanceId] = frozenset()
    """The instances whose slots all have conversations that go on. It gets none of them while another has room."""
    outside_depth: bool = False
    """It does not count for ``queue_depth``: when it came, instances were being stopped for it already."""
    moves: LeaseId | None = None
    """The lease that grows by it: no lease is granted, that one moves."""
    carries: tuple[Carry, ...] = ()
    """The conversations that go along with it."""
    parked: bool = False
    """The lease is parked, so that this stands before all others."""
    carrying: bool = False
    """Its instance is ready, and its conversation is on the way there."""
    why: str = ""
    told: tuple[object, float | None] | None = None
    """The last report to its client: the position with its blockers, and the expected time of the lease."""

    @property
    def is_nobodys(self) -> bool:
        """Whether nobody asked for it: a parked lease has it by itself."""
        return self.moves is not None and self.id == own_ticket(self.moves)

    @property
    def patient(self) -> bool:
        return self.wait is None or self.wait > 0

    @property
    def group(self) -> Group:
        """The group of its ask. Whose instances count for ``max_instances`` depends on the uid (policy/limit.py).

        A growth has a group of its own, for it needs its bytes beside the instance that its lease has.
        """
        if self.moves is not None:
            return (*self.ask.group, self.moves)
        return self.ask.group if self.ask.max_instances is None else (*self.ask.group, self.owner.uid)


@dataclass(kw_only=True, slots=True)
class Lease:
    """A client's right to use an instance. ``size``: the part of the instance's bytes that is charged to the holder."""

    id: LeaseId
    instance: InstanceId
    owner: Owner
    hold: Hold
    slots: int
    size: int
    priority: int
    granted_at: float
    ttl: float | None
    key: str | None = None
    """The client's idempotency key."""
    digest: str | None = None
    """A digest of what was asked under ``key``; None where an earlier lmxd granted it."""
    expires_at: float | None = None
    share: bool = True
    """Whether other leases on the same instance are allowed."""
    growing: TicketId | None = None
    """The ticket by which it is to move to another instance."""
    parked: Parked | None = None
    """It has no instance: ``instance`` is the one that has ended for its move."""


def own_ticket(lease: LeaseId) -> TicketId:
    """The ticket of a parked lease for which nobody asked. No client's has such an id."""
    return TicketId(f"m-{lease}")
