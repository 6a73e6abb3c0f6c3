"""Events, in the past tense: all facts that the core learns. ``at`` is in seconds on a monotonic clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.moves import Carry
from lmxd.core.words import (
    Ask,
    ConnectionId,
    DeviceId,
    DeviceReading,
    Elsewhere,
    Failure,
    Hold,
    InstanceId,
    LeaseId,
    Owner,
    TicketId,
    Yielded,
    YieldId,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One fact, with the time ``at`` which it happened."""

    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRequested(Event):
    """A client asked for a lease.

    ``wait``: seconds to stay in the queue, 0: not at all, None: as long as it takes. ``deadline``: seconds within which
    it must be granted, loading included. ``key``: the client's idempotency key. ``digest``: of what is asked under it:
    a request that waits under the same key is answered, and this one has its place. ``asked_at``: the time of the first
    request, if this repeats one. ``waited``: seconds since it first asked anywhere, as at other nodes of a fleet.
    ``elsewhere``: its user, as a fleet knows it now. ``near``: the instance by which it is best served.
    ``apart``: those whose slots all have conversations that go on: it shares one only where another has no room.
    """

    ticket: TicketId
    lease: LeaseId
    owner: Owner
    ask: Ask
    hold: Hold
    ttl: float | None = None
    wait: float | None = None
    deadline: float | None = None
    key: str | None = None
    digest: str | None = None
    asked_at: float | None = None
    waited: float = 0.0
    elsewhere: Elsewhere | None = None
    near: InstanceId | None = None
    apart: frozenset[InstanceId] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthRequested(Event):
    """A holder wants more context for its lease, on an instance that ``ask`` describes.

    ``owner``: the lease's, on the connection that asks. ``carry``: the conversation that goes along; None: none does.
    ``apart``, ``wait``, ``deadline``: as in ``LeaseRequested``. A growth of it that waits is answered: this one has
    its place.
    """

    ticket: TicketId
    lease: LeaseId
    owner: Owner
    ask: Ask
    carry: Carry | None = None
    apart: frozenset[InstanceId] = frozenset()
    wait: float | None = None
    deadline: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationCarried(Event):
    """The conversations of a ticket were carried to its instance: they lie in ``slots``. None: it is processed anew."""

    ticket: TicketId
    slots: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationSaved(Event):
    """The conversations in ``slots`` of an instance lie in the files of ``carries`` now.

    A slot without one had nothing, or that could not be saved.
    """

    instance: InstanceId
    slots: frozenset[int]
    carries: tuple[Carry, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextSeen(Event):
    """An elastic instance was looked at: one of ``smaller`` has enough context for what each of its slots uses.

    None: it has no more than it needs.
    """

    instance: InstanceId
    smaller: Ask | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseReleased(Event):
    """A holder released its lease."""

    lease: LeaseId


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRenewed(Event):
    """A holder renewed its lease, which restarts the TTL and the instance's idle clock.

    ``ttl`` replaces the TTL, if given. ``connection``: the connection that holds the lease from now on, if its holder
    had lost the one before.
    """

    lease: LeaseId
    ttl: float | None = None
    connection: ConnectionId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskChanged(Event):
    """The ask of a waiting request was made again, because devices or profiles changed."""

    ticket: TicketId
    ask: Ask


@dataclass(frozen=True, kw_only=True, slots=True)
class TicketCancelled(Event):
    """A client withdrew its request."""

    ticket: TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientLeft(Event):
    """A client closed its connection, which ends the requests and leases held by it."""

    connection: ConnectionId


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceReady(Event):
    """An instance answers requests now: it has loaded, or is awake again.

    ``loading``: seconds that the load itself took; None: all seconds since the order count.
    """

    instance: InstanceId
    loading: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPostponed(Event):
    """An instance waits to load: other instances load on its devices."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadBegun(Event):
    """An instance that had waited to load loads now."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceExited(Event):
    """An instance's process has ended, or could not be started. ``failure`` is None when it ended as ordered."""

    instance: InstanceId
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceSlept(Event):
    """An engine says that it sleeps. A reading that begins later shows what that freed."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class SleepFailed(Event):
    """An engine did not fall asleep as it was told, or did not wake again."""

    instance: InstanceId
    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivitySeen(Event):
    """An engine said whether it is busy. ``worked``: it answered requests since it was last asked.

    ``guessed``: it is busy only in so far as clients are connected to it, whoever they are.
    """

    instance: InstanceId
    busy: bool
    worked: bool
    guessed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryMeasured(Event):
    """All devices were read, from ``begun`` on. A device without a reading here is no longer configured."""

    begun: float
    readings: tuple[DeviceReading, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRestored(Event):
    """The daemon was started, and read from disk the promises that an earlier daemon made.

    Nobody is connected for any of them: holders have ``grace`` seconds to come back. Instances that were not ready are
    being stopped, since their clients are gone. A parked lease has no instance among ``instances``, or one that ends,
    and waits for the one that it was to have. ``counts``: instances by profile, so that no id is given twice.
    ``means``: the learned times, as ``Expectations.means`` gives them.
    """

    instances: tuple[Instance, ...]
    leases: tuple[Lease, ...]
    yields: tuple[tuple[DeviceId, YieldId, Yielded], ...]
    counts: Mapping[str, int]
    grace: float
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimePassed(Event):
    """A deadline passed that ``Admission.next_deadline`` named."""
