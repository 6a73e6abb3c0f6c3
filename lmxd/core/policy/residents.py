"""Residents: models that run without a request, because they are kept, preloaded, or started again after a yield.

In: the configured residents and the free bytes. Out: ``StartInstance``. The rule: they start only while no request
waits, and evict nothing.
"""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.policy.placement import best_fit
from lmxd.core.policy.sleep import wakes
from lmxd.core.policy.starts import start
from lmxd.core.rules import Resident
from lmxd.core.words import Ask


def start_missing(state: State) -> None:
    """Start the residents that are missing, if there is room and no request waits."""
    if len(state.queue) or state.draining or not (state.residents or state.displaced):
        return
    for resident in state.residents.values():
        for _ in range(_missing(state, resident)):
            if not _start(state, resident.ask, "it is configured to be kept or preloaded"):
                break
    if state.displaced and not any(a.yields for a in state.ledger.accounts.values()):
        state.displaced = [ask for ask in state.displaced if not _start(state, ask, "it is given back after a yield")]


def any_missing(state: State) -> bool:
    """Whether residents are missing, so that devices must be measured to see when there is room."""
    return bool(state.displaced) or any(_missing(state, resident) for resident in state.residents.values())


def _missing(state: State, resident: Resident) -> int:
    live = len(state.live_by_kind.get(resident.ask.kind, {}))
    first = resident.preload and resident.ask.profile not in state.preloaded
    return max(resident.keep - live, int(first and not live))


def _start(state: State, ask: Ask, why: str) -> bool:
    if state.failed.backing_off(ask.launch, state.now):
        return False
    ways = wakes(state, ask)
    option = best_fit(state, ways or ask.options)
    if option is None or any(a.yields for d, a in state.ledger.accounts.items() if d in option.demand):
        return False
    state.preloaded.add(ask.profile)
    start(state, ask, option, why)
    return True
