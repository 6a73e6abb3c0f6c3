"""The nouns that events, decisions and state share. Bytes are ``int`` bytes, times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeAlias

from lmxd.text import user_name

DeviceId = NewType("DeviceId", str)
InstanceId = NewType("InstanceId", str)
LeaseId = NewType("LeaseId", str)
TicketId = NewType("TicketId", str)
YieldId = NewType("YieldId", str)
ConnectionId = NewType("ConnectionId", int)
NO_CONNECTION: Final = ConnectionId(0)
"""The connection of an owner that has none: a real one is counted from 1."""
Group: TypeAlias = tuple[object, ...]
User: TypeAlias = tuple[int, str]
"""A uid, and the name of the key for which it asks (empty: itself)."""
Kind: TypeAlias = tuple[str, str, User | None]
"""Profile, variant, and the user of a private instance: instances of a kind can replace each other, if large enough."""
RequestKey: TypeAlias = tuple[int, str]
"""A uid, and the idempotency key that its client gave a request."""
Demand: TypeAlias = Mapping[DeviceId, int]
"""Bytes on each device that one way of placing an instance takes, and on each pool that they are drawn from."""

HOLD: Final = "hold"
"""The profile of all holds, so that no name of a client's becomes an id or a label. No model may be called so."""
BEGUN: Final = 1.0
"""Seconds that a load takes whatever its size, until a profile's own launches are known; of a slow engine more."""
FOREVER: Final = 10.0**9
"""Seconds until what never comes about. It is finite: an ask is kept as JSON, which has no infinity."""
_FEW = 4
"""Up to so many options a group names each device: a hold may be for one device or for any of up to four."""


class Hold(StrEnum):
    """The way in which a lease is kept alive: by its connection, by renewals within a TTL, or until its release."""

    CONNECTION = "connection"
    TTL = "ttl"
    EXPLICIT = "explicit"


class Phase(StrEnum):
    """The state of an instance.

    ``reclaiming``: the process is gone, and a reading does not show its bytes free yet. ``dozing``: its engine was told
    to sleep, and a reading does not show yet what that frees. ``waking``: its engine was told to wake.
    """

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    RECLAIMING = "reclaiming"
    DOZING = "dozing"
    ASLEEP = "asleep"
    WAKING = "waking"


class Cause(StrEnum):
    """The reason why an instance is stopped."""

    IDLE = "idle"
    EVICTED = "evicted"
    ADMIN = "admin"
    DRAIN = "drain"
    UNWANTED = "unwanted"
    RELEASED = "released"
    PRESSURE = "pressure"
    PREEMPTED = "preempted"
    SLEEPLESS = "sleepless"
    GROWN = "grown"
    """Its lease has moved to an instance with more context, or waits for one."""
    SHRUNK = "shrunk"
    """It gives back what its conversation does not use: one with less context takes its place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The user and process that asks, as the kernel says (SO_PEERCRED, SO_PEERGROUPS).

    ``user``: the name of the key for which it asks, where one process asks for several, as the gateway does.
    """

    uid: int
    pid: int
    connection: ConnectionId
    gids: tuple[int, ...] = ()
    user: str = ""

    @property
    def who(self) -> User:
        """The user whose recent use is compared with that of others, for a fair order."""
        return self.uid, self.user

    @property
    def called(self) -> str:
        """Its name in sentences."""
        return user_name(*self.who)


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """A user as a fleet knows it. ``used``: recent byte-seconds at its other nodes; ``weight``: None for that here."""

    used: float = 0.0
    weight: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One way to place an instance. The core reads ``demand``, ``pools`` and ``spills``; the engine is told the rest.

    ``pools``: devices of ``demand`` that are memory which others of it share: they count the same bytes once more.
    ``split``: layers on each device, in order. ``gpu_layers`` None: all. ``spills``: the steps from all on a GPU to it.
    ``rests``: the bytes of ``demand`` that it has only so that it can sleep. ``wakes``: the sleeping instance that it
    wakes, for which these bytes are all that it lacks.
    """

    demand: Demand
    split: tuple[int, ...] = ()
    gpu_layers: int | None = None
    in_ram: str = ""
    spills: int = 0
    pools: tuple[DeviceId, ...] = ()
    rests: Demand = field(default_factory=dict)
    wakes: InstanceId | None = None

    @property
    def devices(self) -> Demand:
        """Bytes on each device that it runs on: each byte once, without the pools."""
        if not self.pools and not self.rests:
            return self.demand
        return {d: need - self.rests.get(d, 0) for d, need in self.demand.items() if d not in self.pools}

    @property
    def size(self) -> int:
        """Bytes on all devices together."""
        return sum(self.devices.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A client's wish in bytes: a profile at a size, and the ways in which it could be placed.

    ``variant``: the engine settings that two launches must share to be interchangeable; the core compares it.
    ``context``: tokens per slot. ``slots``: the slots of this lease. ``spread``: the slots of a new instance.
    ``share``: the instance may have other leases. ``max_instances``: so many of its model at most. ``external``: it is
    a hold, whose process is not ours. ``private_to``: the one user whom the instance serves from its start to its end;
    None: anybody. ``name``: a hold's, which is only shown. ``measures``: seconds of its load for which its engine may
    measure what is free on its devices; 0: it does not. ``sleeps``: bytes of RAM that its weights take while it sleeps.
    ``elastic``: a lease on it may grow: it moves to an instance with more context. ``unified``: its slots are shares of
    one cache of ``context`` tokens, and a lease that grows gets further ones there, if they are free.
    ``idle_shrink``: seconds without work after which an elastic instance gives back what it does not use.
    ``begun``: seconds that a start of its engine takes whatever its size, until one of the profile was seen.
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
    private_to: User | None = None
    name: str = ""
    sleeps: Demand = field(default_factory=dict)
    measures: float = 0.0
    elastic: bool = False
    unified: bool = False
    idle_shrink: float = FOREVER
    begun: float = BEGUN
    singles: dict[DeviceId, Option] = field(init=False, repr=False)
    """The options on one device without a pool. They are read for every ticket whenever bytes come free."""
    others: tuple[Option, ...] = field(init=False, repr=False)
    """All other options: over several devices, partly in RAM, or on a device that shares a pool."""
    need: int = field(init=False)
    """The fewest bytes that an instance takes on its fullest device. For 6 + 4 GiB over two devices: 6 GiB."""
    size: int = field(init=False)
    """The fewest bytes that an instance takes on all devices together."""
    portion: int = field(init=False)
    """The bytes that are charged to the holder's quota: by slots, or all if the instance is not shared."""
    spills: int = field(init=False)
    """The most of it that may run in RAM."""
    kind: Kind = field(init=False, repr=False)
    group: Group = field(init=False, repr=False)
    """Equal for asks that the same instances can serve: if one of them cannot be served, the others cannot either."""

    def __post_init__(self) -> None:
        singles = {d: o for o in self.options if len(o.demand) == 1 and not o.spills for d in o.demand}
        size = min((o.size for o in self.options), default=0)
        for name, value in (
            ("singles", singles),
            ("others", tuple(o for o in self.options if len(o.demand) > 1 or o.spills)),
            ("need", min((max(o.devices.values()) for o in self.options), default=0)),
            ("size", size),
            ("portion", size * self.slots // self.spread if self.share else size),
            ("spills", max((o.spills for o in self.options), default=0)),
            ("kind", (self.profile, self.variant, self.private_to)),
        ):
            object.__setattr__(self, name, value)  # computed once, for asks are read far more often than made
        object.__setattr__(self, "group", self._group())

    def _group(self) -> Group:
        """A short tuple, for it is hashed at every look at the queue: many options count by number and least size."""
        few = len(self.options) <= _FEW
        where = tuple(device for o in self.options for device in o.demand) if few else len(self.options)
        size = (self.context, self.slots, self.spread, self.need, self.size, where)
        return (*self.kind, size, self.share, self.external, self.max_instances, self.priority)

    def tokens(self, slots: int) -> int:
        """Tokens that a conversation may have whose lease has so many slots."""
        return self.context // self.spread * slots if self.unified else self.context

    @property
    def launch(self) -> tuple[str, str, int]:
        """The key under which a failed launch is remembered."""
        return self.profile, self.variant, self.context


class Taken(NamedTuple):
    """The bytes of one instance on one device, by one reading.

    ``total`` is charged. ``visible`` is the part of it that the device's ``used`` contains: all of it on a GPU, all but
    file-backed pages in RAM. It is a tuple because readings are compared more often than anything else.
    """

    total: int
    visible: int


class DeviceReading(NamedTuple):
    """One reading of one device.

    ``taken`` is None where processes are not told apart: each instance then counts with its promised bytes, as one does
    that is None in it. ``lags``: bytes of the dead may stay in use. ``pool``: the device whose bytes its own are;
    ``views``: those whose bytes are its. ``unavailable``: why it has no figures. ``called``: its name for people.
    """

    device: DeviceId
    capacity: int = 0
    used: int = 0
    margin: int = 0
    limit: int | None = None
    lags: bool = True
    taken: Mapping[InstanceId, Taken | None] | None = None
    unavailable: str | None = None
    pool: DeviceId | None = None
    views: tuple[DeviceId, ...] = ()
    remedy: str = ""
    called: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Yielded:
    """Bytes kept free for others, for a while. Bytes that others took since then are subtracted."""

    size: int
    foreign_before: int
    until: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The reason why an instance ended: a stable code, one sentence, and the last lines of its log.

    ``code``: a FailureCode, or the code of the error because of which it could not be started.
    """

    code: str
    message: str
    log: tuple[str, ...] = ()
