"""The rows of the ledger on disk. Times are seconds of the boot's monotonic clock, bytes ``int`` bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRow:
    """One instance or hold. ``ask``, ``option`` and ``start`` are JSON; a hold has no ``start``.

    ``pid`` and ``born``, the clock tick of its start, name its process; None before there is one.
    ``work`` and ``prompted`` are the engine's counters when it was last seen active.
    """

    TABLE: ClassVar = "instances"

    id: str
    phase: str
    ask: str
    option: str
    start: str | None
    pid: int | None
    born: int | None
    started_at: float
    ready_at: float | None
    active_at: float
    work: float
    prompted: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRow:
    """One lease. ``parked``: JSON, of one whose instance has ended for its move to another."""

    TABLE: ClassVar = "leases"

    id: str
    instance: str
    uid: int
    pid: int
    gids: str
    user: str
    hold: str
    slots: int
    size: int
    priority: int
    granted_at: float
    ttl: float | None
    expires_at: float | None
    key: str | None
    digest: str | None
    share: bool
    parked: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldRow:
    """Bytes of a device that are kept free for others."""

    TABLE: ClassVar = "yields"

    id: str
    device: str
    size: int
    foreign_before: int
    until: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CountRow:
    """The number of instances that a profile has had, so that no id is given twice."""

    TABLE: ClassVar = "counts"

    id: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivalRow:
    """The time at which a waiting request was first made. ``id``: its user's uid and its idempotency key."""

    TABLE: ClassVar = "arrivals"

    id: str
    asked_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanRow:
    """A learned mean, mostly of times. ``id``: the mean of what, and of which profile."""

    TABLE: ClassVar = "means"

    id: str
    mean: float


Row: TypeAlias = InstanceRow | LeaseRow | YieldRow | CountRow | ArrivalRow | MeanRow
ROWS: tuple[type[Row], ...] = (InstanceRow, LeaseRow, YieldRow, CountRow, ArrivalRow, MeanRow)
LASTING: tuple[type[Row], ...] = (CountRow, MeanRow)
"""The rows that outlive the boot. Everything else is about processes and clocks that end with it."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A row to be removed: that of this id, if there is one."""

    kind: type[Row]
    id: str


Change: TypeAlias = Row | Gone


@dataclass(kw_only=True, slots=True)
class Saved:
    """All that is on disk."""

    instances: list[InstanceRow] = field(default_factory=list)
    leases: list[LeaseRow] = field(default_factory=list)
    yields: list[YieldRow] = field(default_factory=list)
    counts: list[CountRow] = field(default_factory=list)
    arrivals: list[ArrivalRow] = field(default_factory=list)
    means: list[MeanRow] = field(default_factory=list)
