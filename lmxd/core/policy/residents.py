"""Instances that run whether somebody asks or not: kept, preloaded, and given back after a yield."""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.policy.placement import best_fit
from lmxd.core.policy.starts import start
from lmxd.core.rules import Resident
from lmxd.core.words import Ask


def keep_up(state: State) -> None:
    """Start what is missing, if there is room and nobody waits for it."""
    if len(state.queue) or state.draining or not (state.residents or state.displaced):
        return
    for resident in state.residents.values():
        for _ in range(_missing(state, resident)):
            if not _start(state, resident.ask, "it is configured to be kept or preloaded"):
                break
    if state.displaced and not any(a.yields for a in state.ledger.accounts.values()):
        state.displaced = [ask for ask in state.displaced if not _start(state, ask, "it is given back after a yield")]


def is_lacking(state: State) -> bool:
    """Whether something is to be started as soon as there is room, which only a new reading can show."""
    return bool(state.displaced) or any(_missing(state, resident) for resident in state.residents.values())


def _missing(state: State, resident: Resident) -> int:
    live = len(state.kin.get(resident.ask.kind, {}))
    first = resident.preload and resident.ask.profile not in state.preloaded
    return max(resident.keep - live, int(first and not live))


def _start(state: State, ask: Ask, why: str) -> bool:
    if state.backing_off(ask):
        return False
    option = best_fit(state, ask.options)
    if option is None or any(a.yields for d, a in state.ledger.accounts.items() if d in option.demand):
        return False
    state.preloaded.add(ask.profile)
    start(state, ask, option, why)
    return True
