"""Quotas of uids and groups, as they bind a request."""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.instances import Ticket


def over_quota(state: State, ticket: Ticket) -> str | None:
    """The quota that a lease for the ticket would exceed now, as a sentence; None if none.

    The ticket may take the place of a lease of the same user that still lingers on an instance that serves it.
    """
    found = state.shares.within(ticket.owner, ticket.ask.portion, state.policy)
    if found is None or not state.lingering:
        return found
    mine = [i for i in state.lingering.values() if state.lingering.is_of(i, ticket.owner) and i.serves(ticket.ask)]
    sizes = [i.last_use.size for i in mine if i.last_use is not None]
    return state.shares.within(ticket.owner, ticket.ask.portion, state.policy, sizes[0]) if sizes else found
