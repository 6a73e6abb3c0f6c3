"""The bytes that could be had of each device, by ending idle instances too.

They are kept up to date device by device, for of many devices few change between two looks.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lmxd.core.books.accounts import Account
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, Demand, DeviceId, InstanceId, Option, Phase


class Extent(NamedTuple):
    """The bytes that could be had of one device.

    ``free``: at once. ``sure``: with those of instances that are ending. ``most``: with those of idle instances, which
    are ``movable``.
    """

    free: int
    sure: int
    most: int
    movable: tuple[Instance, ...] = ()


@dataclass(slots=True)
class Reach:
    """The bytes that could be had of all devices, less those that were committed to a ticket in this look at the queue.

    The next look starts with the devices as they are.
    """

    _extents: dict[DeviceId, Extent] = field(default_factory=dict)
    _by_free: list[tuple[int, DeviceId]] = field(default_factory=list)
    _by_most: list[tuple[int, DeviceId]] = field(default_factory=list)
    _stale: set[DeviceId] = field(default_factory=set)
    short: set[DeviceId] = field(default_factory=set)
    """The devices with a negative headroom."""

    def touch(self, devices: Iterable[DeviceId]) -> None:
        """Mark devices whose extents are to be computed again."""
        self._stale.update(devices)

    def refresh(
        self,
        accounts: Mapping[DeviceId, Account],
        instances: Mapping[InstanceId, Instance],
        is_idle: Callable[[Instance], bool],
    ) -> set[DeviceId]:
        """Compute the extents of the marked devices, and return these."""
        stale, self._stale = self._stale, set()
        for device in stale:
            account = accounts.get(device)
            if account is not None and account.headroom < 0 and account.unavailable is None:
                self.short.add(device)
            else:
                self.short.discard(device)
            self._put(device, None if account is None else self._look(account, instances, is_idle))
        return stale

    def _look(
        self, account: Account, instances: Mapping[InstanceId, Instance], is_idle: Callable[[Instance], bool]
    ) -> Extent | None:
        if account.unavailable is not None:
            return None
        coming, more, movable = 0, 0, []
        for name, reservation in account.reservations.items():
            instance = instances[name]
            if not instance.live and instance.phase is not Phase.ASLEEP:
                coming += instance.gives_back(account.device, reservation.charge)
            elif is_idle(instance):
                more += reservation.charge
                movable.append(instance)
            elif instance.vacant:
                self._stale.add(account.device)  # it may be idle at the next look without an event
        if account.free <= 0 and not coming and not more:
            return None
        sure = account.headroom + coming
        return Extent(min(account.free, sure), sure, sure + more, tuple(movable))

    def _put(self, device: DeviceId, extent: Extent | None) -> None:
        old = self._extents.pop(device, None)
        if old is not None:
            del self._by_free[bisect_left(self._by_free, (old.free, device))]
            del self._by_most[bisect_left(self._by_most, (old.most, device))]
        if extent is not None:
            self._extents[device] = extent
            insort(self._by_free, (extent.free, device))
            insort(self._by_most, (extent.most, device))

    @property
    def largest(self) -> int:
        """The most bytes that could be had of any one device."""
        return self._by_most[-1][0] if self._by_most else -1

    def roomiest(self, most: int) -> list[DeviceId]:
        """The ``most`` devices of which the most bytes could be had."""
        return [device for _, device in reversed(self._by_most[-most:])]

    def extent(self, device: DeviceId) -> Extent | None:
        """The extent of a device, a new object whenever it changed; None where nothing could be had."""
        return self._extents.get(device)

    def sure(self, device: DeviceId) -> int:
        extent = self._extents.get(device)
        return 0 if extent is None else extent.sure

    def most(self, device: DeviceId) -> int:
        extent = self._extents.get(device)
        return -1 if extent is None else extent.most

    def movable(self, device: DeviceId) -> tuple[Instance, ...]:
        """The idle instances on a device that could be evicted."""
        extent = self._extents.get(device)
        return () if extent is None else extent.movable

    def commit(self, demand: Demand) -> None:
        """Subtract bytes that a ticket gets, or will get."""
        for device, need in demand.items():
            old = self._extents.get(device)
            if old is not None:
                sure, most = old.sure - need, old.most - need
                self._put(device, Extent(min(old.free, sure), sure, most, old.movable))
                self._stale.add(device)

    def keep(self, instance: Instance, charge: Demand) -> None:
        """Note that an instance is not idle any more."""
        for device, size in charge.items():
            old = self._extents.get(device)
            if old is not None and instance in old.movable:
                left = tuple(i for i in old.movable if i is not instance)
                self._put(device, Extent(old.free, old.sure, old.most - size, left))
                self._stale.add(device)

    def fitting(self, ask: Ask) -> Iterator[Option]:
        """The options that fit at once, best first: on a GPU, on few devices, with little left over."""
        yield from self._singles(self._by_free, ask)
        several = [o for o in ask.others if all(n <= self._free(d) for d, n in o.demand.items())]
        yield from sorted(several, key=lambda o: (o.spills, len(o.devices), self._left_over(o)))

    def options(self, ask: Ask) -> Iterator[Option]:
        """The options that would fit if idle instances ended."""
        yield from self._singles(self._by_most, ask)
        yield from (o for o in ask.others if all(n <= self.most(d) for d, n in o.demand.items()))

    def _singles(self, by_size: list[tuple[int, DeviceId]], ask: Ask) -> Iterator[Option]:
        """Options on one device: the device with the least bytes that are enough comes first."""
        for size, device in by_size[bisect_left(by_size, (ask.need, "")) :]:
            option = ask.singles.get(device)
            if option is not None and option.demand[device] <= size:
                yield option

    def _free(self, device: DeviceId) -> int:
        extent = self._extents.get(device)
        return -1 if extent is None else extent.free

    def _left_over(self, option: Option) -> int:
        return sum(self._free(device) - need for device, need in option.devices.items())
