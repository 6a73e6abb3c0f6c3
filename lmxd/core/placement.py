"""Where a demand goes, and why it goes nowhere."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final

from lmxd.core.instances import Instance
from lmxd.core.ledger import Account
from lmxd.core.state import State
from lmxd.core.words import Ask, Demand, DeviceId, Holder, Option, Shortfall

_NEAREST: Final = 4
"""Of many devices, those that lack least are named."""


class Reach:
    """What could be had of each device by those who are looked at one after the other.

    ``sure``: what is free or coming free anyway, less what was committed to those looked at before.
    ``most``: that, and what would come free if the idle instances ended. Both are kept sorted, for of
    many devices few are worth a look: those with just enough.
    """

    def __init__(self, state: State, idle: Iterable[Instance]) -> None:
        self._accounts = state.ledger.accounts
        self.movable: dict[DeviceId, list[Instance]] = {}
        """The idle instances by device."""
        coming, more = self._freed(state.leaving.values()), self._freed(idle, self.movable)
        self.sure: dict[DeviceId, int] = {}
        self.most: dict[DeviceId, int] = {}
        for device, account in self._accounts.items():
            if account.free > 0 or device in coming or device in more:
                sure = account.headroom + coming.get(device, 0)
                self.sure[device], self.most[device] = sure, sure + more.get(device, 0)
        self._by_free = sorted((self._free(device), device) for device in self.sure)
        self._by_most = sorted((size, device) for device, size in self.most.items())

    def _freed(
        self, instances: Iterable[Instance], by_device: dict[DeviceId, list[Instance]] | None = None
    ) -> dict[DeviceId, int]:
        freed: dict[DeviceId, int] = {}
        for instance in instances:
            for device in instance.option.demand:
                account = self._accounts.get(device)
                if account is None or account.unavailable is not None or instance.id not in account.reservations:
                    continue
                freed[device] = freed.get(device, 0) + account.reservations[instance.id].charge
                if by_device is not None:
                    by_device.setdefault(device, []).append(instance)
        return freed

    def _free(self, device: DeviceId) -> int:
        """What can be had at once: not what is coming free, nor what somebody else was promised of it."""
        return min(self._accounts[device].free, self.sure[device])

    @property
    def largest(self) -> int:
        """The most that could be had of any one device."""
        return self._by_most[-1][0] if self._by_most else -1

    def commit(self, demand: Demand) -> None:
        """These bytes are somebody's, from here on."""
        for device, need in demand.items():
            if device in self.most:
                self._change(device, -need, -need)

    def keep(self, instance: Instance) -> None:
        """It was idle, and is not any more."""
        for device in instance.option.demand:
            if instance in self.movable.get(device, ()):
                self.movable[device].remove(instance)
                self._change(device, 0, -self._accounts[device].reservations[instance.id].charge)

    def _change(self, device: DeviceId, sure: int, most: int) -> None:
        self._by_most.remove((self.most[device], device))
        self.sure[device] += sure
        self.most[device] += most
        insort(self._by_most, (self.most[device], device))
        self._by_free = [entry for entry in self._by_free if entry[1] != device]
        insort(self._by_free, (self._free(device), device))

    def fitting(self, ask: Ask) -> Iterator[Option]:
        """The options that fit at once: rather on a GPU than in RAM, on the fewest devices, leaving the least over."""
        yield from self._singles(self._by_free, ask)
        several = [o for o in ask.others if all(d in self.sure and n <= self._free(d) for d, n in o.demand.items())]
        yield from sorted(several, key=lambda o: (o.spills, len(o.demand), self._left_over(o)))

    def options(self, ask: Ask) -> Iterator[Option]:
        """Those that would fit if idle instances ended."""
        yield from self._singles(self._by_most, ask)
        yield from (o for o in ask.others if all(n <= self.most.get(d, -1) for d, n in o.demand.items()))

    def _singles(self, by_size: list[tuple[int, DeviceId]], ask: Ask) -> Iterator[Option]:
        """On one device, the one with the least that is enough first; by that, the earlier of equals."""
        for size, device in by_size[bisect_left(by_size, (ask.need, "")) :]:
            option = ask.singles.get(device)
            if option is not None and option.demand[device] <= size:
                yield option

    def _left_over(self, option: Option) -> int:
        return sum(self._free(device) - need for device, need in option.demand.items())


def best_fit(state: State, options: Iterable[Option]) -> Option | None:
    """The option that fits now: on a GPU rather than in RAM, on the fewest devices, leaving the least behind.

    The earlier one on a tie.
    """
    fitting = [option for option in options if state.ledger.fits(option.demand)]
    return min(fitting, key=lambda o: (o.spills, len(o.demand), _left_over(state, o)), default=None)


def widest(state: State, options: Iterable[Option]) -> Option | None:
    """The option with the most room, fitting or not: for a ledger that only keeps the books."""
    known = [o for o in options if all(state.ledger.usable(device) for device in o.demand)]
    return max(known, key=lambda o: (not o.spills, -len(o.demand), _left_over(state, o)), default=None)


def _left_over(state: State, option: Option) -> int:
    return sum(state.ledger.accounts[device].headroom - need for device, need in option.demand.items())


def shortfalls(state: State, options: Iterable[Option]) -> tuple[Shortfall, ...]:
    """Per device, why no option of the fewest devices fits now: the least lacking first."""
    found: dict[str, tuple[int, Account, int]] = {}
    everything = tuple(options)
    fewest = min((len(o.demand) for o in everything), default=0)
    for option in everything:
        if option.spills or len(option.demand) > fewest:
            continue
        for device, need in option.demand.items():
            account = state.ledger.accounts.get(device) or Account(device=device)
            if account.free < need and device not in found:
                found[device] = (need - account.headroom, account, need)
    nearest = sorted(found.values(), key=lambda x: x[0])[:_NEAREST]
    return tuple(_shortfall(state, account, need) for _, account, need in nearest)


def _shortfall(state: State, account: Account, need: int) -> Shortfall:
    holders = [
        Holder(
            name=instance,
            bytes=r.charge,
            phase=state.instances[instance].phase.value,
            leases=len(state.instances[instance].leases),
            since=state.now - state.instances[instance].started_at,
        )
        for instance, r in account.reservations.items()
    ]
    if account.foreign:
        holders.append(Holder(name="foreign", bytes=account.foreign, phase="foreign"))
    if account.yielded:
        holders.append(Holder(name="yielded", bytes=account.yielded, phase="kept free"))
    return Shortfall(
        device=account.device,
        need=need,
        have=account.headroom,
        ceiling=account.ceiling,
        capacity=account.capacity,
        holders=tuple(sorted(holders, key=lambda h: -h.bytes)),
        unavailable=account.unavailable,
    )
