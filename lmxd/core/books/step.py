"""The event in hand: the facts that it brought, the rows that it changed, and the decisions that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmxd.core.answers import Refusal
from lmxd.core.decisions import Decision
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.words import InstanceId, Kind, LeaseId, YieldId


@dataclass(slots=True)
class Touched:
    """The ids of all that one event added, changed or removed. The daemon writes their rows to disk."""

    instances: set[InstanceId] = field(default_factory=set)
    leases: set[LeaseId] = field(default_factory=set)
    yields: set[YieldId] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.instances or self.leases or self.yields)


@dataclass(slots=True)
class Step:
    """One event on its way through the core. ``record`` fills in the facts, ``derive`` adds decisions."""

    time_passed: bool = False
    """The event is ``TimePassed``."""
    serve_again: bool = False
    """A waiting ticket may be served now: bytes or slots may have come free."""
    refuse_again: bool = False
    """A waiting ticket may have to be refused now: devices, the policy or a model changed."""
    policy_changed: bool = False
    """The queue may be longer now than the policy allows."""
    arrived: Ticket | None = None
    """The ticket of a new request."""
    ready: list[Instance] = field(default_factory=list)
    """Instances that have become ready. Their tickets are to be granted."""
    carried: list[tuple[Ticket, tuple[tuple[int, int], ...]]] = field(default_factory=list)
    """Growths whose conversations have been carried: from which slots, and into which. Their leases are to move."""
    unplaced: list[tuple[Lease, Refusal]] = field(default_factory=list)
    """Parked leases whose tickets were refused, and how. They are to wait anew, or to end."""
    placed: bool = False
    """A parked lease has a new ticket."""
    gone: list[Instance] = field(default_factory=list)
    """Instances whose bytes are free."""
    seen: Instance | None = None
    """The instance whose engine has just said whether it is busy."""
    load_moved: Instance | None = None
    """The instance whose load was postponed, or has begun after that. Its clients get a report."""
    closed_kinds: set[Kind] = field(default_factory=set)
    """The kinds of which an instance stopped accepting requests."""
    touched: Touched = field(default_factory=Touched)
    decisions: list[Decision] = field(default_factory=list)
