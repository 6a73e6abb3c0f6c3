"""Turns: what clients are told of the instances in use that they wait for."""

from __future__ import annotations

from lmxd.core.answers import Turn
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.policy.dates import Date
from lmxd.core.policy.quantum import is_fair, price, serves_until


def turns(state: State, ticket: Ticket, date: Date) -> tuple[Turn, ...]:
    """The turns of the instances that a date waits for, as far as others use them."""
    return tuple(
        Turn(
            instance=i.id,
            closes_in=serves_until(state, i, ticket) - state.now,
            price=price(state, i, ticket.ask),
            unused=i.unused(state.now),
            fair=is_fair(state, i, ticket),
        )
        for i in state.among(date.awaits)
        if date.option is not None and i.live and not i.vacant and not i.ask.external
    )
