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
    state: State,
    leaving: Collection[Instance],
    cause: Cause,
    why: str,
    *,
    asleep: Collection[InstanceId] = (),
    unasked: bool = False,
) -> None:
    """End instances together, once all of them are known to be idle. Until then their engines are asked.

    ``asleep``: those of them that are put to sleep instead. ``unasked``: nobody waits for their bytes. Leases that wait
    to grow, or whose instances shrink, are parked, once their conversations are saved.
    """
    now, grace = state.now, state.policy.grace
    unsure = [i for i in leaving if not (i.known_idle(now) or i.overstays(now, grace))]
    for instance in unsure:
        check(state, instance)
    for instance in leaving:
        if instance not in unsure:
            _save_unsaved(state, instance, cause, why)
    if unsure or any(i.saving for i in leaving):
        return
    for instance in leaving:
        if cause is Cause.SHRUNK:
            make_smaller(state, instance)
            stop(state, instance, cause, why, unasked=unasked)
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


def _save_unsaved(state: State, instance: Instance, cause: Cause, why: str) -> None:
    """Have the conversations saved that were not yet: those that go elsewhere when it ends, of one that shrinks all.

    Where leases grow, its other conversations may have another slot later.
    """
    every = frozenset(range(instance.ask.spread)) - instance.saved
    growths = [state.tickets[x.growing] for x in instance.leases.values() if x.growing is not None]
    theirs = frozenset(carry.slot for growth in growths for carry in growth.carries)
    slots = every if cause is Cause.SHRUNK else every & theirs
    others = every - slots if instance.leases and not instance.others_put_by else frozenset()
    if slots or others:
        save(state, instance, slots, why, others)


def save(
    state: State, instance: Instance, slots: frozenset[int], why: str, others: frozenset[int] = frozenset()
) -> None:
    """Have the conversations in some slots of an instance saved before it ends, and those in ``others`` put by."""
    if not instance.saving:
        instance.saving = True
        instance.others_put_by |= bool(others)
        state.step.decisions.append(SaveConversation(instance=instance.id, slots=slots, others=others, why=why))
