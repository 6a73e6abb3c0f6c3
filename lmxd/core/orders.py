"""Orders that the core gets, as events: of administrators, and by a changed configuration."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.events import Event
from lmxd.core.rules import Policy, Resident
from lmxd.core.words import DeviceId, InstanceId, YieldId


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequested(Event):
    """An administrator stops an instance, whatever it is doing."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class PinChanged(Event):
    """An administrator pins an instance, so that it is neither evicted nor reaped, or unpins it."""

    instance: InstanceId
    pin: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepAliveChanged(Event):
    """A client says how many seconds an instance stays after its last lease. None: as long as its profile says."""

    instance: InstanceId
    seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainRequested(Event):
    """An administrator drains lmxd: no request is admitted, and instances end with their leases (``now``: at once)."""

    now: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainEnded(Event):
    """An administrator ended the drain: requests are admitted again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyChanged(Event):
    """The configuration of admission changed. Launches that failed may be tried again."""

    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidentsChanged(Event):
    """The list of residents (``keep``, ``preload``) changed, or the bytes of their asks did."""

    residents: tuple[Resident, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldRequested(Event):
    """An administrator wants ``size`` bytes of a device free for others, for ``lasts`` seconds."""

    id: YieldId
    device: DeviceId
    size: int
    lasts: float


@dataclass(frozen=True, kw_only=True, slots=True)
class YieldEnded(Event):
    """An administrator ended a yield before its time: its bytes may be promised again."""

    id: YieldId
