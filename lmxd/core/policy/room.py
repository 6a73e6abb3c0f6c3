"""Ending instances that nobody has: all together, and only on fresh evidence that they are idle."""

from __future__ import annotations

from collections.abc import Collection

from lmxd.core.books.endings import stop
from lmxd.core.books.state import State
from lmxd.core.decisions import CheckActivity
from lmxd.core.instances import Instance
from lmxd.core.words import Cause, Phase


def make_room(state: State, leaving: Collection[Instance], cause: Cause, why: str) -> None:
    """End instances together, once every one of them is known to be idle."""
    unsure = [i for i in leaving if not i.known_idle(state.now)]
    for instance in unsure:
        check(state, instance)
    if unsure:
        return
    for instance in leaving:
        if instance.phase is Phase.STARTING:
            stop(state, instance, Cause.UNWANTED, f"nobody wants it any more; {why}")
        else:
            state.evicted_at[instance.ask.kind] = state.now
            stop(state, instance, cause, why)


def check(state: State, instance: Instance) -> None:
    """Have its engine asked what it is doing, unless that is under way."""
    if not instance.checking:
        instance.checking = True
        state.step.decisions.append(CheckActivity(instance=instance.id))
