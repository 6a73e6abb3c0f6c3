"""The ledger: the accounts of all devices. A pool and the devices that share it have one account each.

Bytes promised on such a device are promised of the pool, too. So no byte of it is promised twice, and each device keeps
its own bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lmxd.core.books.accounts import RETIRED, Account
from lmxd.core.words import Demand, DeviceId, DeviceReading, InstanceId


@dataclass(frozen=True, slots=True)
class Measured:
    """The changes that one reading of all devices brought.

    ``gone``: instances whose last bytes came free. ``touched``: devices of which something changed. ``moved``: the
    bytes that are free changed somewhere. ``resized``: the bytes that could ever be free did.
    """

    gone: list[InstanceId]
    touched: set[DeviceId]
    moved: bool
    resized: bool


@dataclass(slots=True)
class Ledger:
    """The accounts of all devices. Only ``reserve`` adds bytes, and only ``measure`` gives them back."""

    accounts: dict[DeviceId, Account] = field(default_factory=dict)
    places: dict[InstanceId, tuple[DeviceId, ...]] = field(default_factory=dict)
    """The devices on which each instance was promised bytes."""

    def measure(self, readings: tuple[DeviceReading, ...], begun: float) -> Measured:
        """Take in a reading of all devices, begun at ``begun``."""
        accounts, touched, freed, moved, resized = self.accounts, set(), [], False, False
        known = len(accounts)
        for reading in readings:
            device = reading.device
            account = accounts.get(device)
            if account is None:
                account = accounts[device] = Account(device=device)
            before = account.free, (account.capacity, account.ceiling)
            changed = account.measure(reading)
            if account.lowered and account.unavailable is None:
                changed = account.lower(begun) or changed
            if changed:
                touched.add(device)
                moved = moved or account.free != before[0]
                resized = resized or (account.capacity, account.ceiling) != before[1]
            if account.exited and account.unavailable is None:
                found = account.collect(reading.taken, begun)
                freed += found
                touched.update([device] if found else ())
        if len(accounts) > len(readings):
            self._join(readings, touched)
            freed += self._retire(accounts.keys() - {reading.device for reading in readings}, touched)
        covered = self._cover_pools(touched)
        gone = [i for i in dict.fromkeys(freed) if next(self.of(i), None) is None]
        for instance in gone:
            del self.places[instance]
        resized = resized or len(accounts) != known
        return Measured(gone, touched, moved or resized or covered or bool(freed), resized)

    def _join(self, readings: tuple[DeviceReading, ...], touched: set[DeviceId]) -> None:
        """Have devices that are not read any more be views of their pool: what is on them has bytes of it."""
        for reading in readings:
            for account in [self.accounts[view] for view in reading.views if view in self.accounts]:
                if account.pool is None:
                    account.pool = reading.device
                    touched.add(account.device)

    def _cover_pools(self, touched: set[DeviceId]) -> bool:
        """Have pools follow the charges of their views, and note which did. Returns whether any did."""
        moved = False
        for pool in {a.pool for device in touched if (a := self.accounts.get(device)) and a.pool in self.accounts}:
            assert pool is not None
            charged: Counter[InstanceId] = Counter()
            for view in self.views(pool):
                charged.update({i: r.charge for i, r in view.reservations.items() if r.exited_at is None})
            if self.accounts[pool].cover(charged):
                touched.add(pool)
                moved = True
        return moved

    @property
    def called(self) -> dict[DeviceId, str]:
        """The devices' names for people."""
        return {device: account.name for device, account in self.accounts.items()}

    def views(self, pool: DeviceId) -> list[Account]:
        """The accounts of the devices that draw from a pool; none if it is no pool."""
        return [a for a in self.accounts.values() if a.pool == pool]

    def _retire(self, missing: Iterable[DeviceId], touched: set[DeviceId]) -> list[InstanceId]:
        freed: list[InstanceId] = []
        for device in sorted(missing):
            account = self.accounts[device]
            if account.unavailable != RETIRED:
                touched.add(device)
            freed += account.retire()
            if not account.reservations:
                touched.add(device)
                del self.accounts[device]
        return freed

    def reserve(self, instance: InstanceId, demand: Demand) -> None:
        """Promise an instance bytes on the devices of ``demand``, beside what it has on others."""
        self.places[instance] = tuple(dict.fromkeys((*self.places.get(instance, ()), *demand)))
        for device, need in demand.items():
            self.accounts[device].reserve(instance, need)

    def lower(self, instance: InstanceId, least: Demand, since: float) -> None:
        """Have readings that begin after ``since`` lower what an instance is promised, to no less than ``least``.

        What is promised of a pool, or of a device that shares one, stays: one reading is never of both.
        """
        for account in self.of(instance):
            if account.device in least and account.pool is None and not self.views(account.device):
                r = account.reservations[instance]
                r.lowered_from, r.least, account.lowered = since, least[account.device], True

    def accept(self) -> None:
        """Take all that is promised for right: it was by another rule, or for an earlier daemon."""
        for account in self.accounts.values():
            account.accept()

    def mark_exited(self, instance: InstanceId, at: float) -> None:
        for account in self.of(instance):
            account.mark_exited(instance, at)

    def of(self, instance: InstanceId) -> Iterator[Account]:
        accounts = (self.accounts.get(device) for device in self.places[instance])
        return (a for a in accounts if a is not None and instance in a.reservations)

    def charge(self, instance: InstanceId) -> dict[DeviceId, int]:
        """Bytes that an instance is charged, by device."""
        return {a.device: a.reservations[instance].charge for a in self.of(instance)}

    def most(self, instance: InstanceId) -> int:
        """The largest of its charges. For a hold, which is on one device, it is all that its holder has."""
        return max(self.charge(instance).values(), default=0)

    def measured(self, instance: InstanceId) -> dict[DeviceId, int]:
        """Bytes that the last readings say of an instance, by device."""
        return {a.device: a.reservations[instance].measured for a in self.of(instance)}

    def fits(self, demand: Demand) -> bool:
        """Whether ``demand`` fits the bytes that are free now, on devices that answer."""
        for device, need in demand.items():
            account = self.accounts.get(device)
            if account is None or account.free < need:
                return False
            if account.pool is not None and account.pool not in demand and account.pool in self.accounts:
                return False  # it was reckoned before the device was known to share a pool
        return True

    def could_ever_fit(self, demand: Demand) -> bool:
        """Whether ``demand`` would fit an empty machine. A device without figures counts as large enough."""
        for device, need in demand.items():
            account = self.accounts.get(device)
            if account is not None and account.capacity and need > account.ceiling:
                return False
        return True

    def usable(self, device: DeviceId) -> bool:
        """Whether the device is known and answers."""
        account = self.accounts.get(device)
        return account is not None and account.unavailable is None
