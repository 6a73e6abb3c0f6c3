"""Instances that run whether somebody asks or not: kept, preloaded, and given back after a yield."""

from __future__ import annotations

from lmxd.core.placement import best_fit
from lmxd.core.rules import Standing
from lmxd.core.starts import start
from lmxd.core.state import State
from lmxd.core.words import Ask


def keep_up(state: State) -> None:
    """Start what is missing, if there is room and nobody waits for it."""
    if len(state.queue) or state.draining or not (state.standing or state.displaced):
        return
    for standing in state.standing.values():
        for _ in range(_missing(state, standing)):
            if not _start(state, standing.ask, "it is configured to be kept or preloaded"):
                break
    if state.displaced and not any(a.yields for a in state.ledger.accounts.values()):
        state.displaced = [ask for ask in state.displaced if not _start(state, ask, "it is given back after a yield")]


def is_lacking(state: State) -> bool:
    """Whether something is to be started as soon as there is room, which only a new reading can show."""
    return bool(state.displaced) or any(_missing(state, standing) for standing in state.standing.values())


def _missing(state: State, standing: Standing) -> int:
    live = len(state.kin.get(standing.ask.kind, {}))
    first = standing.preload and standing.ask.profile not in state.preloaded
    return max(standing.keep - live, int(first and not live))


def _start(state: State, ask: Ask, why: str) -> bool:
    if state.backing_off(ask):
        return False
    option = best_fit(state, ask.options)
    if option is None or any(a.yields for d, a in state.ledger.accounts.items() if d in option.demand):
        return False
    state.preloaded.add(ask.profile)
    start(state, ask, option, why)
    return True
