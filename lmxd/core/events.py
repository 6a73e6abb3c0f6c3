"""Facts, in the past tense: all that the core ever learns. Time is ``at``, seconds on a monotonic clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmxd.core.instances import Instance, Lease
from lmxd.core.rules import Policy, Resident
from lmxd.core.words import (
    Ask,
    ConnectionId,
    DeviceId,
    DeviceReading,
    Failure,
    Hold,
    InstanceId,
    LeaseId,
    Owner,
    TicketId,
    Yielded,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRequested(Event):
    """``wait``: seconds to stay in the queue, 0 for not at all, None for as long as it takes.

    ``deadline``: seconds within which the lease must be granted, the loading of the model included.
    ``key``: what its client knows the request by, should it have to repeat it. ``asked_at``: when it was asked
    first, if this repeats it. ``instead``: the request that this one takes the place of, if it is not answered yet.
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
    asked_at: float | None = None
    instead: TicketId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseReleased(Event):
    lease: LeaseId


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRenewed(Event):
    """The holder is alive: restarts the lease's TTL (``ttl`` replaces it if given) and the idle clock.

    ``connection``: the one that holds it from now on, if its holder lost the one that did.
    """

    lease: LeaseId
    ttl: float | None = None
    connection: ConnectionId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AskChanged(Event):
    """What a waiting request comes to is different by now: devices or profiles changed."""

    ticket: TicketId
    ask: Ask


@dataclass(frozen=True, kw_only=True, slots=True)
class TicketCancelled(Event):
    ticket: TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientLeft(Event):
    connection: ConnectionId


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceReady(Event):
    """``loading``: seconds that its load itself took; without it, all since its start was decided."""

    instance: InstanceId
    loading: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPostponed(Event):
    """An instance stands in line to load: others load on its devices."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadBegun(Event):
    """An instance that stood in line loads now."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceExited(Event):
    """The process is gone, or never came to be. ``failure`` is None when it ended as told."""

    instance: InstanceId
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivitySeen(Event):
    """What the engine says of itself. ``worked``: it did something since it was last asked."""

    instance: InstanceId
    busy: bool
    worked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequested(Event):
    """An administrator ends an instance, whatever it is doing."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class PinChanged(Event):
    """An administrator has an instance neither evicted nor reaped from now on, or as others again."""

    instance: InstanceId
    pin: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainRequested(Event):
    """Nothing new is admitted from here on, and everything ends: when its leases do, or ``now``."""

    now: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainEnded(Event):
    """Requests are admitted again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryMeasured(Event):
    """A reading of all devices, begun at ``begun``. A device that is missing is no longer ours to use."""

    begun: float
    readings: tuple[DeviceReading, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyChanged(Event):
    """The rules are these from here on. What failed to load may be tried again."""

    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidentsChanged(Event):
    """What should run whether somebody asks or not. Device figures may have changed the asks."""

    residents: tuple[Resident, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldRequested(Event):
    """An administrator wants ``size`` bytes of a device free for others, for so many seconds."""

    id: str
    device: DeviceId
    size: int
    lasts: float


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldEnded(Event):
    """It may be used again, before its time."""

    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRestored(Event):
    """What an earlier daemon had promised, which still stands. Nobody is connected for any of it.

    Instances that are not ready are on their way out: nobody waits for them any more. ``grace``: seconds
    that holders have to come back. ``counts``: of instances by profile, so that no id is given twice.
    ``means``: what was learned, as ``Expectations.means`` says it.
    """

    instances: tuple[Instance, ...]
    leases: tuple[Lease, ...]
    yields: tuple[tuple[DeviceId, str, Yielded], ...]
    counts: Mapping[str, int]
    grace: float
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimePassed(Event):
    """Nothing happened but time."""
