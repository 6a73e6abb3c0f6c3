"""The nouns that events, decisions and state share. Bytes are ``int`` bytes, times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeAlias

from lmxd.core.reasons import RefusalCode

DeviceId = NewType("DeviceId", str)
InstanceId = NewType("InstanceId", str)
LeaseId = NewType("LeaseId", str)
TicketId = NewType("TicketId", str)
ConnectionId = NewType("ConnectionId", int)
NO_CONNECTION: Final = ConnectionId(0)
"""The connection of an owner that has none: a real one is counted from 1."""
Kind: TypeAlias = tuple[str, str]
"""Profile and variant: what instances must have in common to be interchangeable, but for their size."""
Group: TypeAlias = tuple[object, ...]
User: TypeAlias = tuple[int, str]
"""A uid, and whom it asks for."""
Demand: TypeAlias = Mapping[DeviceId, int]
"""Bytes that one way of placing an instance takes, per device."""


_FEW = 4
"""Options that are told apart one by one: a hold may be wanted of one device or of another."""


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
    RELEASED = "released"
    PRESSURE = "pressure"
    PREEMPTED = "preempted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who asks, as the kernel says (SO_PEERCRED, SO_PEERGROUPS).

    ``user``: whom it asks for, where one process asks for several, as the gateway does.
    """

    uid: int
    pid: int
    connection: ConnectionId
    gids: tuple[int, ...] = ()
    user: str = ""

    @property
    def who(self) -> User:
        """One of those between whom use is shared fairly."""
        return self.uid, self.user


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One way to place an instance. The rest tells the engine how: the core hands it back as it is.

    ``split``: layers on each device of ``demand``, in its order. ``gpu_layers`` None: all.
    ``spills``: part of it would run in RAM though it belongs on a GPU.
    """

    demand: Demand
    split: tuple[int, ...] = ()
    gpu_layers: int | None = None
    spills: bool = False

    @property
    def size(self) -> int:
        """Bytes on all devices together."""
        return sum(self.demand.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a client wants: a profile at a size, and the ways it could be placed.

    ``variant`` names everything else that two launches must have in common to be
    interchangeable (the profile's engine settings); the core only compares it.
    ``context`` is tokens per slot; ``slots`` is what this lease needs, ``spread`` what a
    new instance would be started with. ``share``: beside other leases, if there are slots.
    ``max_instances``: no further instance is started for it while so many of its kind run.
    ``external``: a hold; the process that takes the bytes is not ours to start or stop.
    """

    profile: str
    variant: str
    context: int
    slots: int
    spread: int
    options: tuple[Option, ...]
    priority: int = 0
    pin: bool = False
    idle_timeout: float = 300.0
    share: bool = True
    external: bool = False
    max_instances: int | None = None
    singles: dict[DeviceId, Option] = field(init=False, repr=False)
    """The options on one device, by device: what is looked at for every ticket whenever bytes come free."""
    others: tuple[Option, ...] = field(init=False, repr=False)
    need: int = field(init=False)
    """The fewest bytes that an instance for it takes on any one device."""
    size: int = field(init=False)
    """The fewest bytes that an instance for it takes on all devices together."""
    portion: int = field(init=False)
    """The bytes of an instance that its holder accounts for: by slots, or all if it keeps the others out."""
    spills: bool = field(init=False)
    """Whether a part of it may run in RAM."""
    kind: Kind = field(init=False, repr=False)
    group: Group = field(init=False, repr=False)
    """The same for asks that say the same: whatever serves one of them would serve the other."""

    def __post_init__(self) -> None:
        singles = {d: o for o in self.options if len(o.demand) == 1 and not o.spills for d in o.demand}
        size = min((o.size for o in self.options), default=0)
        for name, value in (
            ("singles", singles),
            ("others", tuple(o for o in self.options if len(o.demand) > 1 or o.spills)),
            ("need", min((max(o.demand.values()) for o in self.options), default=0)),
            ("size", size),
            ("portion", size * self.slots // self.spread if self.share else size),
            ("spills", any(o.spills for o in self.options)),
            ("kind", (self.profile, self.variant)),
        ):
            object.__setattr__(self, name, value)  # frozen, and asked for far more often than made
        object.__setattr__(self, "group", self._group())

    def _group(self) -> Group:
        """Short, for it is looked up at every turn: of many options their number and their least size."""
        few = len(self.options) <= _FEW
        where = tuple(device for o in self.options for device in o.demand) if few else len(self.options)
        size = (self.context, self.slots, self.spread, self.need, self.size, where)
        return (self.profile, self.variant, size, self.share, self.external, self.max_instances, self.priority)

    @property
    def launch(self) -> tuple[str, str, int]:
        """What a failure to load is remembered of."""
        return self.profile, self.variant, self.context


class Taken(NamedTuple):
    """What one reading says of one instance on one device. A tuple: readings are compared more often than anything.

    ``total`` is charged. ``visible`` is the part of it that the device's ``used`` contains:
    all of it on a GPU, all but file-backed pages in RAM.
    """

    total: int
    visible: int


class DeviceReading(NamedTuple):
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
class Yielded:
    """Bytes kept free for others, for a while. Those that others came to use since then are theirs, not kept twice."""

    size: int
    foreign_before: int
    until: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an instance ended: a stable code, one sentence, and the engine's last words.

    ``code``: a FailureCode, or the code of the error because of which it could not be started.
    """

    code: str
    message: str
    log: tuple[str, ...] = ()


class Holder(NamedTuple):
    """Somebody who has bytes on a device, for so many seconds: an instance, or ``foreign`` for processes not ours."""

    name: str
    bytes: int
    phase: str
    leases: int = 0
    since: float | None = None


class Shortfall(NamedTuple):
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
class Turn:
    """An instance that a request waits for serves those who want it for up to so many seconds more, 0 if it is closed.

    ``price``: seconds that loading both models takes: what a swap costs. ``unused``: it has leases with which nobody
    does anything, and ``closes_in`` is when the last of them ends at the latest. ``fair``: its turn is longer because
    those who use it had less than those who wait.
    """

    instance: InstanceId
    closes_in: float
    price: float
    unused: bool = False
    fair: bool = False

    def __str__(self) -> str:
        if self.unused:
            what = f"is leased, but unused: it goes when that lease ends, in {self.closes_in:.0f} s at the latest"
        elif self.closes_in > 0:
            why = ", for its users had less lately than who waits" if self.fair else ""
            what = f"serves those who want it for up to {self.closes_in:.0f} s more{why}"
        else:
            what = "takes no new requests and finishes what it does"
        return f"{self.instance} {what} (loading both models takes {self.price:.1f} s)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A "no" that explains itself: a stable code, a sentence, the figures and a remedy."""

    code: RefusalCode
    message: str
    remedy: str = ""
    shortfalls: tuple[Shortfall, ...] = ()
    turns: tuple[Turn, ...] = ()
    failure: Failure | None = None
    retry_in: float | None = None


DRAINING: Final = Refusal(
    code=RefusalCode.DRAINING, message="lmxd is draining: nothing new is admitted", remedy="ask again later"
)
STOPPED: Final = Refusal(
    code=RefusalCode.STOPPED, message="the instance was stopped while it was starting", remedy="ask again"
)
CANCELLED: Final = Refusal(code=RefusalCode.CANCELLED, message="the request was cancelled")
CLIENT_LEFT: Final = Refusal(code=RefusalCode.CLIENT_LEFT, message="the client closed its connection")
