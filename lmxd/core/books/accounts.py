"""The account of one device: bytes of it that are promised, measured, reclaiming and foreign.

    headroom = min(limit, capacity - margin - foreign - yielded) - sum(charges)

``limit`` bounds lmxd's own bytes. ``margin`` is never promised. ``foreign`` is measured use that is not lmxd's.
``yielded`` is kept free for others on request. A charge is max(promised, measured). For example, on a card of 80 GiB
with a margin of 2, 10 foreign and a charge of 40, 28 GiB may be promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lmxd.core.words import DeviceId, DeviceReading, InstanceId, Taken, Yielded, YieldId

RECLAIM_DEADLINE = 5.0
"""Seconds after an exit. Bytes still in use then count as foreign: a GPU shows most exits within one second."""
RETIRED = "no longer configured"


@dataclass(kw_only=True, slots=True)
class Reservation:
    """Bytes promised to one instance on one device. ``in_views``: of a pool, those charged on its views.

    ``lowered_from``: a reading that begins later, and shows fewer bytes than are promised, lowers the promise to them,
    but not below ``least``.
    """

    promised: int
    measured: int = 0
    visible: int | None = 0
    in_views: int = 0
    lowered_from: float | None = None
    least: int = 0
    exited_at: float | None = None
    foreign_at_exit: int = 0

    @property
    def charge(self) -> int:
        return max(self.promised, self.measured, self.in_views)


@dataclass(kw_only=True, slots=True)
class Account:
    """The account of one device: reservations, the last reading, and the sums over both.

    ``pool``: the device that it is a view of, if its bytes are bytes of that. Promises are then made on both.

    ``ceiling``: the most that promises may ever add up to. ``bound``: what it was when bytes were last promised; the
    device may be smaller since, or its limit lower. ``foreign``: measured use that no reservation explains.
    ``headroom``: the bytes that may be promised now; it may be negative. ``free``: the same, but -1 while the device
    does not answer. ``exited``: some reservations are of instances that have exited. ``lowered``: readings lower the
    promise of some. Every change brings the sums up to date, for they are read far more often.
    """

    device: DeviceId
    capacity: int = 0
    margin: int = 0
    limit: int | None = None
    used: int = 0
    lags: bool = True
    pool: DeviceId | None = None
    unavailable: str | None = "not measured yet"
    remedy: str = ""
    called: str = ""
    reservations: dict[InstanceId, Reservation] = field(default_factory=dict)
    yields: dict[YieldId, Yielded] = field(default_factory=dict)
    ceiling: int = 0
    bound: int = 0
    foreign: int = 0
    charged: int = 0
    reclaiming: int = 0
    exited: bool = False
    lowered: bool = False
    yielded: int = 0
    headroom: int = 0
    free: int = -1
    reading: DeviceReading | None = None
    """The last reading, if nothing has changed since: the same reading again need not be taken in."""
    taken: Mapping[InstanceId, Taken | None] | None = None
    """The bytes of each of lmxd's processes by the last reading, whether or not it is promised any here."""

    @property
    def name(self) -> str:
        """Its name for people; its id before it was ever measured."""
        return self.called or self.device

    @property
    def balanced(self) -> bool:
        """Whether the sums equal those that are computed from the reservations."""
        anew = replace(self)
        anew.balance()
        return anew._sums == self._sums

    @property
    def _sums(self) -> tuple[int, ...]:
        had = self.ceiling, self.foreign, self.charged, self.exited, self.reclaiming
        return *had, self.yielded, self.headroom, self.free

    def balance(self) -> None:
        """Compute the sums."""
        self.reading = None
        room = max(0, self.capacity - self.margin)
        self.ceiling = room if self.limit is None else min(self.limit, room)
        self.foreign = self._foreign()
        self.charged = sum(r.charge for r in self.reservations.values() if r.exited_at is None)
        self.exited = any(r.exited_at is not None for r in self.reservations.values())
        self.lowered = any(r.lowered_from is not None for r in self.reservations.values())
        self.reclaiming = sum(r.charge for r in self.reservations.values() if r.exited_at is not None)
        self.yielded = self._yielded()
        left = self._room if self.limit is None else min(self.limit, self._room)
        self.headroom = left - self.charged - self.reclaiming
        self.free = self.headroom if self.unavailable is None else -1

    @property
    def is_known(self) -> bool:
        """Whether the device has ever been measured: promises of an earlier daemon may come before that."""
        return self.capacity > 0

    @property
    def limited(self) -> bool:
        """Whether the limit keeps back bytes that the device would have for lmxd."""
        return self.limit is not None and self.limit < self.capacity - self.margin

    @property
    def limit_binds(self) -> bool:
        """Whether the limit leaves less than other processes do. Then foreign use takes nothing from lmxd."""
        return self.limit is not None and self.limit <= self._room

    def _foreign(self) -> int:
        """Use that no reservation explains.

        An exited instance is still credited with its bytes as far as use exceeds the foreign bytes at its exit.
        Example: 3 GiB were foreign, it had 5 and exits, 6 are in use: 3 are its own, and 3 are foreign.
        """
        rest = self._unexplained_by_the_living()
        for r in self.reservations.values():
            if r.exited_at is not None:
                rest -= min(r.visible or 0, max(0, rest - r.foreign_at_exit))
        return rest

    def _yielded(self) -> int:
        if not self.yields:
            return 0
        grown = max(0, self.foreign - min(y.foreign_before for y in self.yields.values()))
        return max(0, sum(y.size for y in self.yields.values()) - grown)

    @property
    def withheld(self) -> int:
        """Bytes that stay free because of the limit alone."""
        return 0 if self.limit is None else max(0, self._room - self.limit)

    @property
    def _room(self) -> int:
        """Bytes that foreign use, the margin and yields leave."""
        return self.capacity - self.margin - self.foreign - self.yielded

    def _unexplained_by_the_living(self) -> int:
        living = [r for r in self.reservations.values() if r.exited_at is None]
        rest = self.used - sum(r.visible for r in living if r.visible is not None)
        rest -= sum(r.promised for r in living if r.visible is None)
        return max(0, rest)

    def reserve(self, instance: InstanceId, size: int) -> None:
        """Promise an instance ``size`` bytes, whatever it was promised before. What it has already is not foreign."""
        r = self.reservations.get(instance)
        if r is None:
            r = self.reservations[instance] = Reservation(promised=size)
            if self.taken is not None and instance in self.taken:
                _attribute(r, self.taken, instance)
        r.promised, r.lowered_from = size, None
        self.balance()
        self.bound = self.ceiling

    @property
    def promised(self) -> int:
        """Bytes that are promised on it, to instances that have exited as well."""
        return sum(r.promised for r in self.reservations.values())

    def accept(self) -> None:
        """Take what is promised for right: it was, at another time, or by another rule."""
        self.bound = max(self.bound, self.promised)

    def measure(self, reading: DeviceReading) -> bool:
        """Take in one reading. Returns whether it says anything new. An unavailable device keeps its last figures."""
        if reading == self.reading:
            return False
        self.unavailable, self.remedy, self.called = reading.unavailable, reading.remedy, reading.called
        if reading.unavailable is None:
            self.capacity, self.margin, self.limit = reading.capacity, reading.margin, reading.limit
            self.used, self.lags, self.pool, self.taken = reading.used, reading.lags, reading.pool, reading.taken
            for instance, r in self.reservations.items():
                if r.exited_at is None:
                    _attribute(r, reading.taken, instance)
        self.balance()
        self.reading = reading
        return True

    def had(self, instance: InstanceId) -> int:
        """Bytes that the last reading says an instance has, though none may be promised to it."""
        mine = None if self.taken is None else self.taken.get(instance)
        return 0 if mine is None else mine.total

    def lower(self, begun: float) -> bool:
        """Lower promises to what a reading begun at ``begun`` shows. Returns whether any was.

        An instance of which the reading does not know is not lowered: it may be there, and not have been seen.
        """
        seen = self.taken or {}
        living = [(name, r) for name, r in self.reservations.items() if r.exited_at is None]
        due = [(name, r) for name, r in living if r.lowered_from is not None and begun > r.lowered_from]
        lower = [r for name, r in due if seen.get(name) and max(r.measured, r.least) < r.promised]
        for r in lower:
            r.promised = max(r.measured, r.least)
        if lower:
            self.balance()
        return bool(lower)

    def cover(self, charged: Mapping[InstanceId, int]) -> bool:
        """Charge a pool no less than its views are charged: one took more than promised, another may yet take its own.

        Returns whether that changed anything.
        """
        living = [(r, charged.get(i, 0)) for i, r in self.reservations.items() if r.exited_at is None]
        changed = [(r, size) for r, size in living if r.in_views != size]
        for r, size in changed:
            r.in_views = size
        if changed:
            self.balance()
        return bool(changed)

    def mark_exited(self, instance: InstanceId, at: float) -> None:
        r = self.reservations[instance]
        r.foreign_at_exit = self.foreign
        r.exited_at = at
        self.balance()

    def collect(self, taken: Mapping[InstanceId, Taken | None] | None, begun: float) -> list[InstanceId]:
        """Remove and name the exited reservations whose bytes a reading begun at ``begun`` shows free."""
        free = [i for i, r in self.reservations.items() if self._is_free(i, r, taken, begun)]
        for instance in free:
            del self.reservations[instance]
        if free:
            self.balance()
        return free

    def retire(self) -> list[InstanceId]:
        """The device is no longer configured: it takes no new instances, and exited ones are removed at once."""
        self.unavailable = RETIRED
        exited = [i for i, r in self.reservations.items() if r.exited_at is not None]
        for instance in exited:
            del self.reservations[instance]
        self.balance()
        return exited

    def _is_free(
        self, instance: InstanceId, r: Reservation, taken: Mapping[InstanceId, Taken | None] | None, begun: float
    ) -> bool:
        if r.exited_at is None or begun <= r.exited_at:
            return False
        if begun - r.exited_at > RECLAIM_DEADLINE or not r.visible:
            return True
        if taken is not None and instance in taken:
            return False
        return not self.lags or self._unexplained_by_the_living() - r.foreign_at_exit <= r.visible // 2


def _attribute(r: Reservation, taken: Mapping[InstanceId, Taken | None] | None, instance: InstanceId) -> None:
    mine = None if taken is None else taken.get(instance, Taken(total=0, visible=0))
    if mine is None:
        r.visible = None
        return
    r.measured, r.visible = mine.total, mine.visible
