"""The words of an answer that is no: who has the bytes, for how long, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lmxd.core.reasons import RefusalCode
from lmxd.core.words import DeviceId, Failure, InstanceId


class Holder(NamedTuple):
    """An owner of bytes on a device: an instance, which has them for ``since`` seconds, or ``foreign`` for others."""

    name: str
    bytes: int
    phase: str
    leases: int = 0
    since: float | None = None


class Shortfall(NamedTuple):
    """The reason why a demand does not fit on a device now: ``need`` bytes, of which ``have`` are free.

    ``ceiling`` is the most that lmxd could ever promise of the device's ``capacity``. ``holders`` have the rest.
    ``views``: the devices that draw from it, if it is a pool. ``called``: the names of all these for people.
    """

    device: DeviceId
    need: int
    have: int
    ceiling: int
    capacity: int
    holders: tuple[Holder, ...] = ()
    unavailable: str | None = None
    views: tuple[DeviceId, ...] = ()
    remedy: str = ""
    called: Mapping[DeviceId, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """An instance that a request waits for, while others use it for up to ``closes_in`` seconds more (0: it is closed).

    ``price``: seconds that loading both models takes, which is the cost of a swap. ``unused``: its leases are idle, and
    ``closes_in`` is the latest end of the last one. ``fair``: its turn is longer because its users had less than those
    who wait.
    """

    instance: InstanceId
    closes_in: float
    price: float
    unused: bool = False
    fair: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A "no" that explains itself: a stable code, a sentence, the figures and a remedy.

    ``would_help``: the part of the remedy that the configuration would have to say.
    """

    code: RefusalCode
    message: str
    remedy: str = ""
    would_help: tuple[str, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    turns: tuple[Turn, ...] = ()
    failure: Failure | None = None
    retry_in: float | None = None
