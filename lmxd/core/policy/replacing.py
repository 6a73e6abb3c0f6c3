"""Replacing: an instance makes way for a larger one of its own model, where there may be no other beside it.

In: a ticket whose ``max_instances`` run, none of which is large enough. Out: an eviction, or a swap. The rule: one that
is idle goes at once. Else the one that can be closed first serves until its turn is over, as for another model.
"""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.making_way import Swap
from lmxd.core.policy.eviction import evictable
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.limit import has_all_instances, replaceable
from lmxd.core.policy.quantum import price, turn_ends
from lmxd.core.policy.room import make_room
from lmxd.core.words import Cause, InstanceId


def larger(state: State, forecast: Forecast, ticket: Ticket) -> dict[InstanceId, Swap]:
    """End an idle instance that is too small for a ticket, or have one make way: the swaps that are wanted for that."""
    if not has_all_instances(state, ticket) or state.able(ticket.ask):
        return {}
    others = replaceable(state, ticket.ask)
    going = {i.id: i.swap for i in others if i.swap and i.swap.ticket != ticket.id and state.waiting(i.swap.ticket)}
    if going or not others:
        return going
    found = min(others, key=lambda i: (not evictable(state, i), forecast.closes_at(i, ticket)))
    if evictable(state, found):
        ticket.room_being_made = True
        make_room(state, (found,), Cause.EVICTED, f"{ticket.id} needs a larger one, and no other may run beside it")
        return {}
    if not ticket.patient:
        return {}
    swap = Swap(
        ticket=ticket.id,
        profile=ticket.ask.profile,
        closes_at=forecast.closes_at(found, ticket),
        price=price(state, found, ticket.ask),
        turn_ends=turn_ends(state, found, ticket),
    )
    return {found.id: swap}
