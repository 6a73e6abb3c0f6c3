"""Which idle instances would have to leave so that something fits: the cheapest set that suffices, or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lmxd.core.instances import Instance
from lmxd.core.reach import Reach
from lmxd.core.state import State
from lmxd.core.words import Demand, DeviceId, Option

THRASH_WINDOW: Final = 60.0
"""Seconds within which a kind that is wanted again should not have been evicted."""
_NOBODY: Final = -1000
_STEPS: Final = 512
"""How many sets are looked at; beyond that the best found so far is taken. Up to nine candidates: all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An instance that may leave, what that costs, and what it frees. ``rank``: of a set the highest counts first."""

    instance: Instance
    rank: int
    cost: float
    frees: Demand


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Instances that leave so that ``option`` fits. None of them: those already on their way out suffice."""

    option: Option
    leaving: tuple[Instance, ...]
    rank: int
    cost: float


def reload_cost(state: State, instance: Instance) -> float:
    """Seconds that its end is expected to cost: those of a reload, as likely as it is wanted again."""
    profile = instance.ask.profile
    seconds = state.expectations.launch(profile, instance.option.size)
    return seconds * state.expectations.reuse(profile, state.now - instance.active_at)


def evictable(state: State, instance: Instance, *, pinned: bool = False) -> bool:
    """Whether it may leave for somebody else: nobody has it, nor is about to come back. ``pinned``: even so."""
    if not instance.live or not instance.vacant or instance.busy or instance.ask.external:
        return False
    return pinned or not (instance.ask.pin or instance.stays_until > state.now or kept(state, instance))


def kept(state: State, instance: Instance) -> bool:
    """Of ``keep`` instances of a kind those that were used last stay."""
    standing = state.standing.get(instance.ask.kind) if state.standing else None
    if standing is None or not standing.keep:
        return False
    newest = sorted(state.kin[instance.ask.kind].values(), key=lambda i: -i.active_at)
    return instance in newest[: standing.keep]


def candidate(state: State, instance: Instance, *, rank: int | None = None) -> Candidate:
    return Candidate(
        instance=instance,
        rank=instance.ask.priority if rank is None else rank,
        cost=reload_cost(state, instance),
        frees=state.ledger.charge(instance.id),
    )


def best_plan(state: State, reach: Reach, options: Iterable[Option]) -> Plan | None:
    """The cheapest set of the instances within reach whose end lets one of the options fit.

    None if no set suffices: then nothing is to be evicted.
    """
    plans = [plan for option in options if (plan := _plan(state, reach, option, _lacking(reach, option))) is not None]
    return min(plans, key=lambda p: (p.option.spills, p.rank, p.cost, len(p.leaving)), default=None)


def _lacking(reach: Reach, option: Option) -> dict[DeviceId, int]:
    lacking = {device: need - reach.sure(device) for device, need in option.demand.items()}
    return {device: size for device, size in lacking.items() if size > 0}


def _plan(state: State, reach: Reach, option: Option, lacking: Demand) -> Plan | None:
    helpful = {i.id: i for device in lacking for i in reach.movable(device) if i.live}
    found = cheapest([candidate(state, i) for i in helpful.values()], lacking)
    if found is None:
        return None
    return Plan(
        option=option,
        leaving=tuple(c.instance for c in found),
        rank=max((c.rank for c in found), default=_NOBODY),
        cost=sum(c.cost for c in found),
    )


def cheapest(candidates: Iterable[Candidate], lacking: Demand) -> list[Candidate] | None:
    """The set that frees at least ``lacking``: of the lowest highest rank, then of the least cost, then the smallest.

    None if even all of them do not suffice.
    """
    helpful = list(candidates)
    if not _covers(helpful, lacking):
        return None
    for rank in sorted({c.rank for c in helpful}):  # no dearer class than needed
        allowed = [c for c in helpful if c.rank <= rank]
        if _covers(allowed, lacking):
            return _search(sorted(allowed, key=lambda c: (c.cost, -sum(c.frees.values()))), lacking)
    return []


def _covers(candidates: list[Candidate], lacking: Demand) -> bool:
    return all(sum(c.frees.get(device, 0) for c in candidates) >= size for device, size in lacking.items())


def _search(candidates: list[Candidate], lacking: Demand) -> list[Candidate]:
    """Branch and bound from the greedy set, which leaves out, dearest first, whom nobody needs."""
    best = list(candidates)
    for c in reversed(candidates):
        fewer = [x for x in best if x is not c]
        if _covers(fewer, lacking):
            best = fewer
    price = _price(best)
    steps = 0

    def descend(start: int, chosen: list[Candidate]) -> None:
        nonlocal best, price, steps
        steps += 1
        if steps > _STEPS or _price(chosen) >= price:
            return
        if _covers(chosen, lacking):
            best, price = list(chosen), _price(chosen)
            return
        for n in range(start, len(candidates)):
            if not _covers(chosen + candidates[n:], lacking):
                return
            descend(n + 1, [*chosen, candidates[n]])

    descend(0, [])
    return best


def _price(chosen: list[Candidate]) -> tuple[float, int]:
    return sum(c.cost for c in chosen), len(chosen)
