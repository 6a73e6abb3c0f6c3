"""The nouns that events, decisions and state share. Bytes are ``int`` bytes, times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

DeviceId: TypeAlias = str
InstanceId: TypeAlias = str
LeaseId: TypeAlias = str
TicketId: TypeAlias = str
ConnectionId: TypeAlias = int
Demand: TypeAlias = Mapping[DeviceId, int]
"""Bytes that one way of placing an instance takes, per device."""


class Hold(StrEnum):
    """What keeps a lease alive."""

    CONNECTION = "connection"
    TTL = "ttl"
    EXPLICIT = "explicit"


class Phase(StrEnum):
    """Where an instance stands. ``reclaiming``: the process is gone, its bytes are not yet seen free."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    RECLAIMING = "reclaiming"


class Cause(StrEnum):
    """Why an instance was told to stop."""

    IDLE = "idle"
    EVICTED = "evicted"
    ADMIN = "admin"
    DRAIN = "drain"
    UNWANTED = "unwanted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who asks, as the kernel says (SO_PEERCRED)."""

    uid: int
    pid: int
    connection: ConnectionId


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a client wants: a profile at a size, and the ways it could be placed, best first.

    ``variant`` names everything else that two launches must have in common to be
    interchangeable (the profile's engine settings); the core only compares it.
    ``context`` is tokens per slot; ``slots`` is what this lease needs, ``spread`` what a
    new instance would be started with.
    """

    profile: str
    variant: str
    context: int
    slots: int
    spread: int
    options: tuple[Demand, ...]
    priority: int = 0
    pin: bool = False
    idle_timeout: float = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What one reading says of one instance on one device.

    ``total`` is charged. ``visible`` is the part of it that the device's ``used`` contains:
    all of it on a GPU, all but file-backed pages in RAM.
    """

    total: int
    visible: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReading:
    """One look at one device.

    ``taken`` is None where the device cannot tell processes apart: use is then attributed
    to instances by their promises. ``lags``: bytes of a dead process may still be in use for
    a while, as a GPU's are; RAM is free before an exit is reported. ``unavailable`` says why
    there are no figures.
    """

    device: DeviceId
    capacity: int = 0
    used: int = 0
    margin: int = 0
    limit: int | None = None
    lags: bool = True
    taken: Mapping[InstanceId, Taken] | None = None
    unavailable: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an instance ended: a stable code, one sentence, and the engine's last words."""

    code: str
    message: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Somebody who has bytes on a device: an instance, or ``foreign`` for processes not ours."""

    name: str
    bytes: int
    phase: str
    leases: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortfall:
    """Why a demand does not fit on a device now: ``need`` against ``have``, and who has the rest.

    ``ceiling`` is the most that there could ever be for us of the device's ``capacity``.
    """

    device: DeviceId
    need: int
    have: int
    ceiling: int
    capacity: int
    holders: tuple[Holder, ...] = ()
    unavailable: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A "no" that explains itself: a stable code, a sentence, the figures and a remedy."""

    code: str
    message: str
    remedy: str = ""
    shortfalls: tuple[Shortfall, ...] = ()
    failure: Failure | None = None
