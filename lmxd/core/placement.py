"""Where a demand goes, and why it goes nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lmxd.core.ledger import Account
from lmxd.core.state import State
from lmxd.core.words import Holder, Option, Shortfall

_NEAREST: Final = 4
"""Of many devices, those that lack least are named."""


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
