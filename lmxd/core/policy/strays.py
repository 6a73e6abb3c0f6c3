"""Strays: instances that work, or may, though nobody has a lease on them: who had one has the key still.

In: the instances on which a lease lingers. Out: ``CheckActivity`` and ``StopInstance``. The rule: the last lease counts
until the engine says that it is idle. After the grace a stray is ended for whom its bytes or its lease keep waiting, as
it is: for bytes by ``eviction``, for a quota here. One that takes its last user beyond a quota is ended at once.
One that had several users, was idle, and works again is charged to nobody, and has no grace: any of them may do it.
"""

from __future__ import annotations

from lmxd.core.books.endings import stop
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.room import check, make_room
from lmxd.core.words import Cause


def look_into_lingering(state: State) -> None:
    """Ask the engines of instances whose last lease has just ended; and the busy ones again, when time passes."""
    for instance in state.lingering.values():
        if instance.checked_at is None or state.step.time_passed:
            check(state, instance)


def is_looked_into(state: State, ticket: Ticket) -> bool:
    """Whether a ticket may be within its quota in a moment: an engine says whether its user left work behind."""
    return any(i.checked_at is None and _bears_on(state, i, ticket) for i in state.lingering.values())


def end_beyond_quota(state: State) -> None:
    """End the instance that was just seen to work, if its last user has more than a quota by that.

    A lease is not granted beyond a quota while others linger. So the user let it become idle, and came back to it with
    the key of a lease that is over.
    """
    instance = state.step.seen
    if instance is None or not instance.strays or instance.ask.pin or instance.id not in state.lingering:
        return
    if disturbs(state, instance):
        return
    assert instance.last_use is not None
    if any(
        t.moves is not None and t.instance is not None and _bears_on(state, instance, t) for t in state.tickets.values()
    ):
        return  # its lease counts twice until it has moved
    if quota := state.shares.exceeded(instance.last_use.owner, state.policy):
        stop(state, instance, Cause.EVICTED, f"nobody has a lease on it, and it is beyond a quota: {quota}")
        state.step.serve_again = True


def end_overstaying(state: State) -> None:
    """End the strays that have had their grace, if a request waits because the quota is used up by them."""
    grace = state.policy.grace
    for instance in [i for i in state.lingering.values() if i.overstays(state.now, grace)]:
        waits = (t for t in state.queue if _bears_on(state, instance, t) and over_quota(state, t))
        if not (instance.ask.pin or disturbs(state, instance)) and (ticket := next(waits, None)) is not None:
            why = f"nobody has a lease on it, and it counts for the quota that {ticket.id} waits for"
            make_room(state, (instance,), Cause.EVICTED, why)


def _bears_on(state: State, instance: Instance, ticket: Ticket) -> bool:
    """Whether the lease that lingers on an instance counts for a quota that binds a ticket."""
    if instance.last_use is None:
        return False
    theirs = state.shares.binding(instance.last_use.owner, state.policy)
    return not theirs.isdisjoint(state.shares.binding(ticket.owner, state.policy))
