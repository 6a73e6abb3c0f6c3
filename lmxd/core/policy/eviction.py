"""Which idle instances would have to leave so that something fits: the cheapest set that suffices, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from lmxd.core.books.reach import Extent, Reach
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import Demand, DeviceId, Option

THRASH_WINDOW: Final = 60.0
"""Seconds within which a kind that is wanted again should not have been evicted."""
_NOBODY: Final = -1000
_STEADY: Final = 1.0
"""Seconds for which what instances cost is taken to stay the same."""
_STEPS: Final = 512
"""How many sets are looked at; beyond that the best found so far is taken. Up to nine candidates: all."""


class Candidate(NamedTuple):
    """An instance that may leave, what that costs, and what it frees. ``rank``: of a set the highest counts first."""

    instance: Instance
    rank: int
    cost: float
    frees: Demand


class EvictionPlan(NamedTuple):
    """Instances that leave so that ``option`` fits. None of them: those already on their way out suffice."""

    option: Option
    leaving: tuple[Instance, ...]
    rank: int
    cost: float

    @property
    def price(self) -> tuple[bool, int, float, int]:
        """The lower, the better."""
        return self.option.spills, self.rank, self.cost, len(self.leaving)


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
    resident = state.residents.get(instance.ask.kind) if state.residents else None
    if resident is None or not resident.keep:
        return False
    newest = sorted(state.kin[instance.ask.kind].values(), key=lambda i: -i.active_at)
    return instance in newest[: resident.keep]


def candidate(state: State, instance: Instance, *, rank: int | None = None) -> Candidate:
    return Candidate(
        instance=instance,
        rank=instance.ask.priority if rank is None else rank,
        cost=reload_cost(state, instance),
        frees=state.ledger.charge(instance.id),
    )


class Planner:
    """Finds what would have to leave, and remembers it while nothing changes on the device."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._found: dict[tuple[DeviceId, int], tuple[Extent, EvictionPlan | None]] = {}
        """By device and bytes: for which extent, and what was found."""

    def is_good(self, now: float) -> bool:
        """Whether what it remembers still holds: what instances cost moves slowly, but it moves."""
        return now - self._since < _STEADY

    def best(self, state: State, reach: Reach, options: Iterable[Option]) -> EvictionPlan | None:
        """The cheapest set of the instances within reach whose end lets one of the options fit.

        None if no set suffices: then nothing is to be evicted.
        """
        plans = (self._plan(state, reach, option) for option in options)
        return min((plan for plan in plans if plan is not None), key=lambda plan: plan.price, default=None)

    def _plan(self, state: State, reach: Reach, option: Option) -> EvictionPlan | None:
        if len(option.demand) > 1:
            return _plan(state, reach, option)
        ((device, need),) = option.demand.items()
        extent, known = reach.extent(device), self._found.get((device, need))
        if known is not None and known[0] is extent:
            return None if known[1] is None else known[1]._replace(option=option)
        plan = _plan(state, reach, option)
        if extent is not None:
            self._found[device, need] = extent, plan
        return plan


def _plan(state: State, reach: Reach, option: Option) -> EvictionPlan | None:
    lacking = {d: size for d, need in option.demand.items() if (size := need - reach.sure(d)) > 0}
    helpful = {i.id: i for device in lacking for i in reach.movable(device) if i.live}
    found = cheapest([candidate(state, i) for i in helpful.values()], lacking)
    if found is None:
        return None
    rank, cost = max((c.rank for c in found), default=_NOBODY), sum(c.cost for c in found)
    return EvictionPlan(option, tuple(c.instance for c in found), rank, cost)


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
