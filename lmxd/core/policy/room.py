"""Making room: end idle instances together, and only on fresh evidence that they are idle (docs/adr/0002).

One that works for longer than the grace though nobody has a lease on it is ended as it is.
"""

from __future__ import annotations

from collections.abc import Collection

from lmxd.core.books.endings import stop
from lmxd.core.books.parking import make_smaller, park
from lmxd.core.books.sleeping import fall_asleep
from lmxd.core.books.state import State
from lmxd.core.decisions import CheckActivity, SaveConversation
from lmxd.core.instances import Instance
from lmxd.core.words import Cause, InstanceId


def make_room(
    state: State, leaving: Collection[Instance], cause: Cause, why: str, *, asleep: Collection[InstanceId] = ()
) -> None:
    """End instances together, once all of them are known to be idle. Until then their engines are asked.

    ``asleep``: those of them that are put to sleep instead. Leases that wait to grow, or whose instances shrink, are
    parked, once their conversations are saved.
    """
    now, grace = state.now, state.policy.grace
    unsure = [i for i in leaving if not (i.known_idle(now) or i.overstays(now, grace))]
    for instance in unsure:
        check(state, instance)
    unsaved = [i for i in leaving if (i.leases or cause is Cause.SHRUNK) and not i.saved and i not in unsure]
    for instance in unsaved:
        save(state, instance, why)
    if unsure or any(i.saving for i in leaving):
        return
    for instance in leaving:
        if cause is Cause.SHRUNK:
            make_smaller(state, instance)
            stop(state, instance, cause, why)
        elif instance.leases:
            park(state, instance)
            stop(state, instance, Cause.GROWN, why)
        elif instance.id in asleep:
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


def save(state: State, instance: Instance, why: str) -> None:
    """Have the conversation of an instance saved before it ends, if there is one that can be carried."""
    growths = [state.tickets[x.growing] for x in instance.leases.values() if x.growing is not None]
    if instance.ask.spread > 1 or (growths and all(t.carry is None for t in growths)):
        instance.saved = True  # there is nothing to save
    elif not instance.saving:
        instance.saving = True
        state.step.decisions.append(SaveConversation(instance=instance.id, why=why))
