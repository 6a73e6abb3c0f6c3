"""Shrinking: an idle elastic instance gives back what its slots do not use. A smaller one takes its place.

In: the instances of which a smaller one would do, as the daemon says (``ContextSeen``). Out: a plan for a ticket, and
``StopInstance``. The rule: before anything is evicted, the cheapest set shrinks whose differences suffice; if they do
not, nothing shrinks. One that did no work for ``idle_shrink`` shrinks for nobody. The conversations of all its slots go
along, and the smaller instance starts before anybody else gets the bytes. None shrinks right after it has grown, or
while launches of the smaller one fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmxd.core.books.reach import Reach
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.policy.eviction import NOBODY, THRASH_WINDOW, Candidate, EvictionPlan, cheapest
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.room import make_room
from lmxd.core.policy.starts import start
from lmxd.core.words import Cause, Option, Phase


def shrinkable(state: State) -> list[Candidate]:
    """The instances that may shrink, with the bytes that each would give back."""
    known = (i for i in state.instances.values() if i.smaller is not None)
    return [_candidate(state, i) for i in known if _may_shrink(state, i)]


def by_shrinking(
    state: State, reach: Reach, candidates: Sequence[Candidate], options: Iterable[Option]
) -> EvictionPlan | None:
    """The first of ``options`` that fits if instances shrink, and which; None if there is none."""
    still = [c for c in candidates if _may_shrink(state, c.instance)]
    for option in options if still else ():
        lacking = {d: size for d, need in option.demand.items() if (size := need - reach.sure(d)) > 0}
        known = all(state.ledger.usable(device) for device in lacking) and reach.short.isdisjoint(lacking)
        helpful = [c for c in still if not c.frees.keys().isdisjoint(lacking)]
        if known and lacking and (found := cheapest(helpful, lacking)):
            return EvictionPlan(option, tuple(c.instance for c in found), NOBODY, sum(c.cost for c in found))
    return None


def shrink_the_idle(state: State) -> None:
    """Have the instance shrink whose engine has just said that it is idle, if it did nothing for ``idle_shrink``."""
    instance = state.step.seen
    if instance is None or instance.smaller is None or state.draining:
        return
    idle = state.now - instance.used_at
    if idle >= instance.ask.idle_shrink and _may_shrink(state, instance):
        why = f"idle for {idle:.0f} s, and less context is enough for it"
        make_room(state, (instance,), Cause.SHRUNK, why, unasked=True)


def resume(state: State) -> None:
    """Start the smaller instances, without a lease, whose larger ones are gone, before anybody else gets their bytes.

    One that does not fit any more, since others took the bytes, is lost with its cache.
    """
    for gone in [i for i in state.step.gone if i.shrinking]:
        if (option := gone.lesser) is None or state.draining or not state.ledger.fits(option.demand):
            continue
        assert gone.smaller is not None
        smaller = start(state, gone.smaller, option, f"it takes the place of {gone.id}", gone.carries)
        smaller.keep_alive = gone.keep_alive


def _may_shrink(state: State, instance: Instance) -> bool:
    if instance.phase is not Phase.READY or instance.lesser is None or instance.busy or instance.tickets:
        return False
    if instance.ask.pin or instance.outgrown or instance.superseded or instance.yielding is not None or instance.closed:
        return False
    if state.now - instance.grown_at < THRASH_WINDOW or disturbs(state, instance):
        return False
    if instance.smaller is not None and state.failed.backing_off(instance.smaller.launch, state.now):
        return False  # it would only be loaded again
    if instance.vacant:
        return instance.evictable_from <= state.now
    return instance.unused(state.now) and all(x.growing is None for x in instance.leases.values())


def _candidate(state: State, instance: Instance) -> Candidate:
    """An instance that may shrink: the cost is the load of the smaller one, and it frees the difference."""
    assert instance.smaller is not None
    assert instance.lesser is not None
    smaller, takes = instance.smaller, instance.lesser.demand
    charge = state.ledger.charge(instance.id)
    frees = {d: less for d, had in charge.items() if (less := had - takes.get(d, 0)) > 0}
    cost = state.expectations.launch(smaller.profile, instance.lesser.size, smaller.begun)
    return Candidate(instance=instance, rank=NOBODY, cost=cost, frees=frees)
