"""Placement: on which devices an instance goes, and why it fits on none.

In: the ledger and the options of an ask. Out: an option, or the shortfall of each device. The rule is best fit: on a
GPU rather than in RAM, on the fewest devices, and on those that have the least left over.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from operator import itemgetter
from typing import Final

from lmxd.core.answers import Holder, Shortfall
from lmxd.core.books.accounts import Account
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.words import Ask, Option

_NEAREST: Final = 4
"""The number of devices that a refusal names: of many, those that lack the least."""


def best_fit(state: State, options: Iterable[Option]) -> Option | None:
    """The option that fits best now; the earlier one on a tie; None if none fits."""
    fitting = [option for option in options if state.ledger.fits(option.demand)]
    return min(fitting, key=lambda o: (o.spills, len(o.devices), _left_over(state, o)), default=None)


def widest(state: State, options: Iterable[Option]) -> Option | None:
    """The option with the most room, whether it fits or not: for ``enforce: false``, which starts everything."""
    known = [o for o in options if all(state.ledger.usable(device) for device in o.demand)]
    return max(known, key=lambda o: (-o.spills, -len(o.devices), _left_over(state, o)), default=None)


def _left_over(state: State, option: Option) -> int:
    return sum(state.ledger.accounts[device].headroom - need for device, need in option.devices.items())


def shortfalls(state: State, ask: Ask) -> tuple[Shortfall, ...]:
    """The reason why no option on the fewest devices fits now, by device: the least lacking first."""
    lacking = {}
    for option in _of_fewest(ask):
        for device, need in option.demand.items():
            account = state.ledger.accounts.get(device) or Account(device=device)
            if account.free < need:
                lacking[device] = (need - account.headroom, need, account)
    nearest = nsmallest(_NEAREST, lacking.values(), key=itemgetter(0))
    return tuple(_shortfall(state, account, need) for _, need, account in nearest)


def useful_shortfalls(state: State, ticket: Ticket) -> tuple[Shortfall, ...]:
    """The shortfalls of a ticket; none if ``max_instances`` allows no further instance, since bytes would not help."""
    return () if has_all_instances(state, ticket) else shortfalls(state, ticket.ask)


def _of_fewest(ask: Ask) -> list[Option]:
    fewest = min((len(o.devices) for o in ask.options), default=0)
    return [o for o in ask.options if len(o.devices) == fewest and not o.spills]


def _shortfall(state: State, account: Account, need: int) -> Shortfall:
    now, having = state.now, [(state.instances[name], r.charge) for name, r in account.reservations.items()]
    holders = [Holder(i.id, size, i.phase.value, len(i.leases), now - i.started_at) for i, size in having]
    if account.foreign and not account.limit_binds:
        holders.append(Holder("foreign", account.foreign, "foreign"))
    if account.yielded:
        holders.append(Holder("yielded", account.yielded, "kept free"))
    views = state.ledger.views(account.device)
    return Shortfall(
        device=account.device,
        need=need,
        have=account.headroom,
        ceiling=account.ceiling,
        capacity=account.capacity,
        holders=tuple(sorted(holders, key=lambda h: -h.bytes)),
        unavailable=account.unavailable,
        views=tuple(view.device for view in views),
        remedy=account.remedy,
        called={each.device: each.name for each in (account, *views)},
    )
