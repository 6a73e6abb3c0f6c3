"""Eviction: which idle instances to end so that an option fits.

In: the state, the bytes in reach, and the options of a ticket. Out: an ``EvictionPlan``, or None. The rule: end the
cheapest set that frees enough, and nothing if no set does. A set costs the time to load it again, weighted by how
likely that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Final, NamedTuple

from lmxd.core.books.reach import Extent, Reach
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.quantum import reload_seconds
from lmxd.core.words import Demand, DeviceId, InstanceId, Option, Phase

THRASH_WINDOW: Final = 60.0
"""Seconds. A kind that is requested again sooner after its eviction is counted as thrash; nothing else depends on it.
"""
NOBODY: Final = -1000
"""The rank of a plan that evicts nothing: below every class, which is -100 or higher."""
_ASLEEP: Final = -999
"""The rank of an instance that sleeps: it ends before any other."""
_STEADY: Final = 1.0
"""Seconds for which a found plan is used again. With a usual gap of 300 s a cost changes by 0.3 % in that time."""
_STEPS: Final = 512
"""The most sets that are compared; then the best so far is taken. 512 are all sets of nine candidates."""


class Candidate(NamedTuple):
    """An instance that could be ended: its class (``rank``), the cost in seconds, and the bytes that it frees."""

    instance: Instance
    rank: int
    cost: float
    frees: Demand


class EvictionPlan(NamedTuple):
    """Instances to end so that ``option`` fits. If there are none, the instances that are ending already suffice.

    ``rank``: the highest class among them. ``cost``: expected seconds of loading them again.
    """

    option: Option
    leaving: tuple[Instance, ...]
    rank: int
    cost: float

    @property
    def price(self) -> tuple[bool, int, int, float, int]:
        """Plans are compared by this: the lowest is taken."""
        return self.option.wakes is None, self.option.spills, self.rank, self.cost, len(self.leaving)


def reload_cost(state: State, instance: Instance) -> float:
    """The expected cost of an eviction: the seconds of a reload, times the likelihood that the model is wanted again.

    A load of 5 s that is wanted again with likelihood 1/2 costs 2.5 s.
    """
    seconds = reload_seconds(state, instance)
    return seconds * state.expectations.reuse(instance.ask.profile, state.now - instance.active_at)


def evictable(state: State, instance: Instance, *, pinned: bool = False) -> bool:
    """Whether an instance may be ended for a ticket: it is idle, or was left busy, without leases, not pinned or kept,
    and no engine measures its device.

    ``pinned``: whether pinned and kept instances count as well, and those that would disturb one, as for a yield.
    """
    if instance.phase is Phase.ASLEEP:
        return pinned or not (instance.ask.pin or disturbs(state, instance))
    if not instance.live or not instance.vacant or instance.ask.external:
        return False
    if instance.busy and not instance.overstays(state.now, state.policy.grace):
        return False
    if pinned:
        return True
    bound = instance.ask.pin or instance.evictable_from > state.now or kept(state, instance)
    return not (bound or disturbs(state, instance))


def kept(state: State, instance: Instance) -> bool:
    """Whether an instance is one of the ``keep`` of its kind: those that were used last are kept."""
    resident = state.residents.get(instance.ask.kind) if state.residents else None
    if resident is None or not resident.keep:
        return False
    newest = sorted(state.live_by_kind[instance.ask.kind].values(), key=lambda i: -i.active_at)
    return instance in newest[: resident.keep]


def candidate(state: State, instance: Instance, *, rank: int | None = None) -> Candidate:
    """``rank``: the highest class of its holders; None for an idle instance, which has its profile's class."""
    own = _ASLEEP if instance.phase is Phase.ASLEEP else instance.ask.priority
    return Candidate(
        instance=instance,
        rank=own if rank is None else rank,
        cost=reload_cost(state, instance),
        frees=state.ledger.charge(instance.id),
    )


class Planner:
    """Finds eviction plans, and remembers them while the bytes in reach of their device do not change."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._found: dict[tuple[DeviceId, int, InstanceId | None], tuple[Extent, EvictionPlan | None]] = {}
        """By device, bytes and whom it wakes: the extent that the plan was made for, and the plan."""

    def is_good(self, now: float) -> bool:
        """Whether the remembered plans may be used: their costs change slowly."""
        return now - self._since < _STEADY

    def best(self, state: State, reach: Reach, options: Iterable[Option]) -> EvictionPlan | None:
        """The cheapest plan that lets one of ``options`` fit; None if no set of instances suffices."""
        plans = (self._plan(state, reach, option) for option in options)
        return min((plan for plan in plans if plan is not None), key=lambda plan: plan.price, default=None)

    def _plan(self, state: State, reach: Reach, option: Option) -> EvictionPlan | None:
        if len(option.demand) > 1:
            return plan_of(state, reach, option)
        ((device, need),) = option.demand.items()
        key = device, need, option.wakes
        extent, known = reach.extent(device), self._found.get(key)
        if known is not None and known[0] is extent:
            return None if known[1] is None else known[1]._replace(option=option)
        plan = plan_of(state, reach, option)
        if extent is not None:
            self._found[key] = extent, plan
        return plan


def plan_of(
    state: State, reach: Reach, option: Option, more: Sequence[Candidate] = (), stay: Set[InstanceId] = frozenset()
) -> EvictionPlan | None:
    """The cheapest plan by which ``option`` fits.

    ``more``: what may end beside the idle instances in reach; ``stay``: which of those may not.
    """
    lacking = {d: size for d, need in option.demand.items() if (size := need - reach.sure(d)) > 0}
    movable = [i for device in lacking for i in reach.movable(device) if i.live or i.phase is Phase.ASLEEP]
    helpful = {i.id: i for i in movable if i.id != option.wakes and i.id not in stay}
    found = cheapest([*(candidate(state, i) for i in helpful.values()), *more], lacking)
    if found is None:
        return None
    rank, cost = max((c.rank for c in found), default=NOBODY), sum(c.cost for c in found)
    return EvictionPlan(option, tuple(c.instance for c in found), rank, cost)


def cheapest(candidates: Iterable[Candidate], lacking: Demand) -> list[Candidate] | None:
    """The set that frees at least ``lacking``: of the lowest class, then of the least cost, then the smallest.

    None if even all candidates do not suffice.
    """
    helpful = list(candidates)
    if not _covers(helpful, lacking):
        return None
    for rank in sorted({c.rank for c in helpful}):  # no higher class than needed
        allowed = [c for c in helpful if c.rank <= rank]
        if _covers(allowed, lacking):
            return _search(sorted(allowed, key=lambda c: (c.cost, -sum(c.frees.values()))), lacking)
    return []


def _covers(candidates: list[Candidate], lacking: Demand) -> bool:
    return all(sum(c.frees.get(device, 0) for c in candidates) >= size for device, size in lacking.items())


def _search(candidates: list[Candidate], lacking: Demand) -> list[Candidate]:
    """Branch and bound. It begins with the greedy set: all candidates, less the dearest that are not needed."""
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
