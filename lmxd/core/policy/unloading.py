"""Unloading: instances whose last client said how long they are to stay, or that a larger one has taken the place of.

In: the vacant instances. Out: ``StopInstance`` and ``CheckActivity``. The rule: only one that its engine says is idle
ends, and none that is pinned or kept. A lease granted meanwhile sets the word of an earlier client aside. What lies in
one cache for all slots is put by before.
"""

from __future__ import annotations

from lmxd.core.books.endings import stop
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.policy.eviction import kept
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.room import check, save
from lmxd.core.policy.superseding import supersede
from lmxd.core.words import Cause, Phase


def unload(state: State) -> None:
    """End the instances that have stayed as long as they were to, or whose place a larger one has."""
    supersede(state)
    for instance in [i for i in state.vacant.values() if _is_due(state, i)]:
        if instance.known_idle(state.now):
            if instance.superseded:
                _hand_over(state, instance)
            elif instance.outgrown:
                stop(state, instance, Cause.GROWN, "its lease has moved to an instance with more context")
            else:
                stop(state, instance, Cause.IDLE, f"its client wanted it for {instance.keep_alive:g} s more")
        elif not instance.busy or state.step.time_passed:
            check(state, instance)


def _hand_over(state: State, instance: Instance) -> None:
    """End an instance whose place a larger one has, once its conversations lie where that finds them."""
    why = "one with more context for all slots has taken its place"
    if not instance.others_put_by:
        save(state, instance, frozenset(), why, frozenset(range(instance.ask.spread)))
    elif not instance.saving:
        stop(state, instance, Cause.GROWN, why)


def _is_due(state: State, instance: Instance) -> bool:
    if instance.phase is not Phase.READY or instance.ask.pin:
        return False
    stays = 0.0 if instance.outgrown or instance.superseded else instance.keep_alive
    over = stays is not None and state.now - instance.vacant_since >= stays
    return over and not kept(state, instance) and not disturbs(state, instance)
