"""Growing: a lease moves to an instance with more context, and its conversation is carried there before.

In: the tickets of growths that have a ready instance. Out: ``CarryConversation`` and ``MoveLease``. The rule: a growth
is served as any request, by a slot, free bytes, evictions or a swap. Its lease stays where it is until the conversation
lies there, so that nothing is lost if anything fails before. An instance of one slot that it leaves ends once idle.
"""

from __future__ import annotations

from typing import Final

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.moving import move_lease
from lmxd.core.books.state import State
from lmxd.core.decisions import CarryConversation
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.room import check

CARRIED_WITHIN: Final = 30.0
"""Seconds that carrying may take. A conversation that is not there by then is processed anew: that is sooner."""


def carry(state: State, instance: Instance, ticket: Ticket) -> None:
    """Have the conversations of a growth carried to its instance, which is ready. A lease without any moves.

    One that gets further slots where it is has all its conversations there.
    """
    if ticket.moves in instance.leases:
        ticket.why = f"{instance.id} has further slots for it"
        move_lease(state, ticket, instance, tuple((each.slot, each.slot) for each in ticket.carries))
        return
    if ticket.instance is None:
        state.attach(ticket, instance)
    assert ticket.moves is not None
    ticket.carrying = True
    state.alarms.set((AlarmKind.CARRY, ticket.id), state.now + CARRIED_WITHIN)
    if not ticket.carries:
        state.step.carried.append((ticket, ()))
        return
    state.step.decisions.append(
        CarryConversation(ticket=ticket.id, lease=ticket.moves, carries=ticket.carries, instance=instance.id)
    )


def move_carried(state: State) -> bool:
    """Move the leases whose conversations have been carried. Returns whether any moved: slots are free by that."""
    moved = False
    while state.step.carried:
        ticket, carried = state.step.carried.pop()
        if ticket.id not in state.tickets:
            continue  # it was refused by the same event
        assert ticket.moves is not None
        assert ticket.instance is not None
        left = state.instances.get(state.leases[ticket.moves].instance)
        move_lease(state, ticket, state.instances[ticket.instance], carried)
        moved = True
        if left is not None and left.outgrown:
            check(state, left)
    return moved
