"""Unloading: instances whose last client said how long they are to stay, or whose lease has grown out of them.

In: the vacant instances. Out: ``StopInstance`` and ``CheckActivity``. The rule: only one that its engine says is idle
ends, and none that is pinned or kept. A lease granted meanwhile sets the word of an earlier client aside.
"""

from __future__ import annotations

from lmxd.core.books.endings import stop
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.policy.eviction import kept
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.room import check
from lmxd.core.words import Cause, Phase


def unload(state: State) -> None:
    """End the instances that have stayed as long as they were to."""
    for instance in [i for i in state.vacant.values() if _is_due(state, i)]:
        if instance.known_idle(state.now):
            if instance.outgrown:
                stop(state, instance, Cause.GROWN, "its lease has moved to an instance with more context")
            else:
                stop(state, instance, Cause.IDLE, f"its client wanted it for {instance.keep_alive:g} s more")
        elif not instance.busy or state.step.time_passed:
            check(state, instance)


def _is_due(state: State, instance: Instance) -> bool:
    if instance.phase is not Phase.READY or instance.ask.pin:
        return False
    stays = 0.0 if instance.outgrown else instance.keep_alive
    over = stays is not None and state.now - instance.vacant_since >= stays
    return over and not kept(state, instance) and not disturbs(state, instance)
