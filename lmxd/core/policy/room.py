"""Making room: end idle instances together, and only on fresh evidence that they are idle (docs/adr/0002).

One that works for longer than the grace though nobody has a lease on it is ended as it is.
"""

from __future__ import annotations

from collections.abc import Collection

from lmxd.core.books.endings import stop
from lmxd.core.books.sleeping import fall_asleep
from lmxd.core.books.state import State
from lmxd.core.decisions import CheckActivity
from lmxd.core.instances import Instance
from lmxd.core.words import Cause, InstanceId


def make_room(
    state: State, leaving: Collection[Instance], cause: Cause, why: str, *, asleep: Collection[InstanceId] = ()
) -> None:
    """End instances together, once all of them are known to be idle. Until then their engines are asked.

    ``asleep``: those of them that are put to sleep instead.
    """
    now, grace = state.now, state.policy.grace
    unsure = [i for i in leaving if not (i.known_idle(now) or i.overstays(now, grace))]
    for instance in unsure:
        check(state, instance)
    if unsure:
        return
    for instance in leaving:
        if instance.id in asleep:
            fall_asleep(state, instance, why)
        elif instance.comes_up:
            stop(state, instance, Cause.UNWANTED, f"nobody wants it any more; {why}")
        else:
            state.evicted_at[instance.ask.kind] = state.now
            stop(state, instance, cause, why)


def check(state: State, instance: Instance) -> None:
    """Ask an instance's engine whether it is busy, unless it is being asked already."""
    if not instance.checking:
        instance.checking = True
        state.step.decisions.append(CheckActivity(instance=instance.id))
