"""Where a demand goes: the device it fits best, or the idle instances that would have to leave first."""

from __future__ import annotations

from collections.abc import Iterable

from lmxd.core.ledger import Account
from lmxd.core.state import Instance, State
from lmxd.core.words import Demand, DeviceId, Holder, Phase, Shortfall


def best_fit(state: State, options: Iterable[Demand]) -> Demand | None:
    """The option that fits now and leaves the least behind; the earlier one on a tie."""
    fitting = [d for d in options if state.ledger.fits(d)]
    return min(fitting, key=lambda d: _left_over(state, d), default=None)


def widest(state: State, options: Iterable[Demand]) -> Demand | None:
    """The option with the most room, fitting or not: for a ledger that only keeps the books."""
    known = [d for d in options if all(state.ledger.usable(device) for device in d)]
    return max(known, key=lambda d: _left_over(state, d), default=None)


def _left_over(state: State, demand: Demand) -> int:
    return sum(state.ledger.accounts[device].headroom - need for device, need in demand.items())


def victims(state: State, options: Iterable[Demand]) -> list[Instance] | None:
    """The fewest idle instances whose end would let one of the options fit.

    An empty list: what is already leaving suffices. None: nothing that may be evicted does,
    so nothing is.
    """
    plans = [plan for demand in options if (plan := _victims_for(state, demand)) is not None]
    return min(plans, key=len, default=None)


def _victims_for(state: State, demand: Demand) -> list[Instance] | None:
    going = [i for i in state.instances.values() if i.phase in (Phase.STOPPING, Phase.RECLAIMING)]
    chosen: list[Instance] = []
    for candidate in sorted(_evictable(state), key=lambda i: (i.ask.priority, i.active_at)):
        if state.ledger.fits(demand, _freed(state, going + chosen)):
            break
        if any(device in demand for device in candidate.demand):
            chosen.append(candidate)
    if not state.ledger.fits(demand, _freed(state, going + chosen)):
        return None
    return _without_the_needless(state, demand, going, chosen)


def _without_the_needless(
    state: State, demand: Demand, going: list[Instance], chosen: list[Instance]
) -> list[Instance]:
    """Spare the most recently used of those whose end is not needed after all."""
    for candidate in list(reversed(chosen)):
        fewer = [i for i in chosen if i is not candidate]
        if state.ledger.fits(demand, _freed(state, going + fewer)):
            chosen = fewer
    return chosen


def _evictable(state: State) -> list[Instance]:
    return [
        i
        for i in state.instances.values()
        if i.phase in (Phase.STARTING, Phase.READY) and i.vacant and not i.busy and not i.ask.pin
    ]


def _freed(state: State, instances: list[Instance]) -> dict[DeviceId, int]:
    freed: dict[DeviceId, int] = {}
    for instance in instances:
        for device, charge in state.ledger.charge(instance.id).items():
            freed[device] = freed.get(device, 0) + charge
    return freed


def shortfalls(state: State, options: Iterable[Demand]) -> tuple[Shortfall, ...]:
    """Per device, why none of the options fits now."""
    found: dict[DeviceId, Shortfall] = {}
    for demand in options:
        for device, need in demand.items():
            account = state.ledger.accounts.get(device, Account(device=device))
            if (account.unavailable or need > account.headroom) and device not in found:
                found[device] = _shortfall(state, account, need)
    return tuple(found.values())


def _shortfall(state: State, account: Account, need: int) -> Shortfall:
    holders = [
        Holder(
            name=instance,
            bytes=r.charge,
            phase=state.instances[instance].phase.value,
            leases=len(state.instances[instance].leases),
        )
        for instance, r in account.reservations.items()
    ]
    if account.foreign:
        holders.append(Holder(name="foreign", bytes=account.foreign, phase="foreign"))
    return Shortfall(
        device=account.device,
        need=need,
        have=account.headroom,
        ceiling=account.ceiling,
        capacity=account.capacity,
        holders=tuple(sorted(holders, key=lambda h: -h.bytes)),
        unavailable=account.unavailable,
    )
