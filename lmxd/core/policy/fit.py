"""Fit: whether a new instance would find room, and how many instances would have to end for it.

In: the state and an ask. Out: a ``Fit``. It has no effect, and says nothing of who waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from lmxd.core.books.state import State
from lmxd.core.words import Ask, Demand, InstanceId, Option

_WEIGHED: Final = 16
"""Options that are compared, beyond those that fit as they are: each weighs all instances on its devices."""


class FitWhen(StrEnum):
    """The answer in a word.

    ``now``: there is room. ``after``: once instances have ended. ``blocked``: the bytes are not lmxd's to give.
    ``never``: more than any device could ever give.
    """

    NOW = "now"
    AFTER = "after"
    BLOCKED = "blocked"
    NEVER = "never"


class Fit(NamedTuple):
    """Whether there is room for a new instance, and the fewest instances that would have to end first."""

    when: FitWhen
    ends: tuple[InstanceId, ...] = ()


def fit(state: State, ask: Ask) -> Fit:
    """Of several options, the one for which the fewest instances end; none of them needs to be idle."""
    if any(state.ledger.fits(option.demand) for option in ask.options):
        return Fit(FitWhen.NOW)
    possible = [option for option in ask.options if state.ledger.could_ever_fit(option.demand)]
    if not possible:
        return Fit(FitWhen.NEVER)
    usable = [o for o in possible if all(state.ledger.usable(device) for device in o.demand)]
    found = [ends for option in _roomiest(state, usable) if (ends := _ends(state, option.demand)) is not None]
    return Fit(FitWhen.AFTER, min(found, key=len)) if found else Fit(FitWhen.BLOCKED)


def _roomiest(state: State, options: Iterable[Option]) -> list[Option]:
    def lacks(option: Option) -> int:
        return sum(max(0, need - state.ledger.accounts[device].free) for device, need in option.demand.items())

    return sorted(options, key=lambda option: (option.spills, lacks(option)))[:_WEIGHED]


def _ends(state: State, demand: Demand) -> tuple[InstanceId, ...] | None:
    """The largest instances first, until enough is free. None if all of them would not do."""
    lacking = {d: size for d, need in demand.items() if (size := need - state.ledger.accounts[d].free) > 0}
    left = {
        name: state.ledger.charge(name) for device in lacking for name in state.ledger.accounts[device].reservations
    }
    ends: list[InstanceId] = []
    while lacking:
        if not left:
            return None
        most = max(left, key=lambda name: sum(min(left[name].get(d, 0), size) for d, size in lacking.items()))
        freed = left.pop(most)
        ends.append(most)
        lacking = {d: rest for d, size in lacking.items() if (rest := size - freed.get(d, 0)) > 0}
    return tuple(ends)
