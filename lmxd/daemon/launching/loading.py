"""Loads: several instances at once on a device where their bytes are known, else one by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from lmxd.core.words import DeviceId, DeviceReading, InstanceId, Taken

STILL: Final = 2.0
"""Seconds without growth after which one that loads alone is taken to have what it takes, or to begin late: what it
was promised is kept for it either way."""
_BUS: Final = 8
"""Loads that fill a bus: llama-server copies from the page cache with one thread, 40 GB in 5.5 s on the machine of an
H100, and PCI Express 5.0 x16 takes some eight times that. More at once only make each other late."""
_GROWTH: Final = 2 * 2**20
"""The least that counts: CUDA hands out memory in such pieces."""


def usual(cores: int) -> int:
    """The default number of loads at once on a device: each has a core to itself, as long as the bus keeps up."""
    return max(1, min(cores, _BUS))


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingLoad:
    """One instance's claim to load: its devices, and the call that tells it to begin."""

    devices: frozenset[DeviceId]
    alone: bool
    begin: Callable[[], None]
    still: bool = False
    """Its bytes do not grow any more, though it is not ready."""


class Gate:
    """Lets instances load: on each device at most ``most`` at once.

    An instance that loads alone keeps others out while its bytes grow. Once it is still, it counts no more.
    Order is that of arrival: nobody overtakes an instance on a device that it waits for. An instance that wants several
    devices gets them at once, and holds none while it waits, so that no two wait for each other.
    """

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self._waiting: dict[InstanceId, PendingLoad] = {}
        self._loading: dict[InstanceId, PendingLoad] = {}

    def enter(self, instance: InstanceId, turn: PendingLoad) -> None:
        """Stand in line; ``turn.begin`` is called when it may load, if need be at once."""
        self._waiting[instance] = turn
        self._admit()

    def share(self, instance: InstanceId) -> None:
        """Let others load beside an instance that was alone."""
        if instance in self._loading:
            self._loading[instance] = replace(self._loading[instance], still=True)
            self._admit()

    def leave(self, instance: InstanceId) -> None:
        """Take an instance out: it has loaded, or does not want to any more."""
        self._waiting.pop(instance, None)
        self._loading.pop(instance, None)
        self._admit()

    @property
    def waiting(self) -> tuple[InstanceId, ...]:
        """The instances that stand in line, in order."""
        return tuple(self._waiting)

    @property
    def alone(self) -> dict[InstanceId, frozenset[DeviceId]]:
        """The instances that keep others out, with the devices that they keep to themselves."""
        return {instance: turn.devices for instance, turn in self._loading.items() if turn.alone and not turn.still}

    def _admit(self) -> None:
        awaited: set[DeviceId] = set()
        for instance, turn in list(self._waiting.items()):
            if awaited.isdisjoint(turn.devices) and all(self._has_room(device, turn) for device in turn.devices):
                self._loading[instance] = self._waiting.pop(instance)
                turn.begin()
            else:
                awaited |= turn.devices

    def _has_room(self, device: DeviceId, turn: PendingLoad) -> bool:
        there = [other for other in self._loading.values() if device in other.devices]
        growing = [other for other in there if not other.still]
        if turn.alone or any(other.alone for other in growing):
            return not growing
        return len(growing) < self.most


@dataclass(slots=True)
class Rise:
    """The rise of one instance's bytes from look to look."""

    since: float
    size: int = 0

    def has_stopped(self, at: float, size: int) -> bool:
        """Returns whether it has not grown for a while, now that it takes ``size``."""
        if size > self.size + _GROWTH:
            self.since, self.size = at, size
        return at - self.since >= STILL


class Loading:
    """The gate, and a watch on instances that load alone: they keep others out only while their bytes grow."""

    def __init__(self) -> None:
        self.gate = Gate()
        self._rises: dict[InstanceId, Rise] = {}

    def see(self, begun: float, readings: Iterable[DeviceReading]) -> None:
        """One look at the devices, and when it began."""
        by_device = {reading.device: reading for reading in readings if reading.unavailable is None}
        alone = self.gate.alone
        self._rises = {instance: self._rises.get(instance, Rise(begun)) for instance in alone}
        for instance, devices in alone.items():
            if not devices <= by_device.keys():
                continue  # one of them does not answer
            size = sum(_size(by_device[device], instance) for device in devices)
            if self._rises[instance].has_stopped(begun, size):
                self.gate.share(instance)


def _size(reading: DeviceReading, instance: InstanceId) -> int:
    """The bytes that an instance takes; all that are in use where a device cannot tell them apart."""
    found = None if reading.taken is None else reading.taken.get(instance, Taken(total=0, visible=0))
    return reading.used if found is None else found.total
