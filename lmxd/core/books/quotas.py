"""Quotas of uids and groups, as they bind a request."""

from __future__ import annotations

from typing import Final

from lmxd.core.books.state import State
from lmxd.core.holders import Ticket

_MOST_LEASES: Final = 1024
"""The most leases of a uid without a ``max_leases``: twice as many as the gateway lets requests wait."""


def over_quota(state: State, ticket: Ticket) -> str | None:
    """The quota that a lease for the ticket would exceed now, as a sentence; None if none.

    The ticket may take the place of a lease of the same user that still lingers on an instance that serves it.
    A growth takes the place of its own lease.
    """
    if ticket.moves is not None:
        return state.shares.within(ticket.owner, ticket.ask.portion, state.policy, state.leases[ticket.moves].size)
    found = state.shares.within(ticket.owner, ticket.ask.portion, state.policy)
    if found is None or not state.lingering:
        return found
    mine = [i for i in state.lingering.values() if state.lingering.is_of(i, ticket.owner) and i.serves(ticket.ask)]
    sizes = [i.last_use.size for i in mine if i.last_use is not None]
    return state.shares.within(ticket.owner, ticket.ask.portion, state.policy, sizes[0]) if sizes else found


def beyond_bound(state: State, ticket: Ticket) -> str | None:
    """The bound of its user's leases or holds that a ticket would exceed, as a sentence; None if none.

    Every user has such bounds, for each lease costs memory and time as long as it lasts, however small it is.
    """
    uid, quota = ticket.owner.uid, state.policy.quota(ticket.owner.uid)
    leases = state.shares.by_uid[uid].leases
    if ticket.moves is None and quota.max_leases is None and leases >= _MOST_LEASES:
        return f"uid {uid} has {leases} of at most {_MOST_LEASES} leases"
    if not ticket.ask.external or quota.max_holds is None:
        return None
    mine = [x for x in state.leases.values() if x.owner.uid == uid and x.parked is None]
    holds = sum(state.instances[x.instance].ask.external for x in mine)
    holds += sum(t is not ticket and t.owner.uid == uid and t.ask.external for t in state.tickets.values())
    return None if holds < quota.max_holds else f"uid {uid} has {holds} of at most {quota.max_holds} holds"
