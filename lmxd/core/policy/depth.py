"""The depth of the queue: who may wait in it.

In: a new ticket that is not served, and the tickets that wait. Out: a refusal, or none. The rule: ``queue_depth``
tickets may wait, of those that a new one does not stand before. Each user has a part of it that others cannot fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lmxd.core.answers import Refusal
from lmxd.core.books.endings import refuse
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.policy import refusals
from lmxd.core.words import User


def no_place(state: State, ticket: Ticket) -> Refusal | None:
    """The reason why a new ticket that is not served may not wait; None if it may."""
    ticket.outside_depth = ticket.room_being_made or ticket.moves is not None
    if ticket.instance is not None or ticket.room_being_made:
        return None
    portion, depth = ticket.ask.portion, state.policy.queue_depth
    for who, had, quota in state.shares.bounds(ticket.owner, state.policy):
        if quota.max_leases == 0 or (quota.max_bytes is not None and portion > quota.max_bytes):
            first = "ask for less" if quota.max_leases != 0 else ""
            return refusals.beyond_quota(over_quota(state, ticket) or "", first)
        if quota.max_waiting is not None and had.waiting > quota.max_waiting:
            return refusals.too_many_waiting(who, quota.max_waiting)
    if ticket.outside_depth or ticket.asked_at < state.now or len(state.queue) <= depth:
        return None  # it had its place before, or there is one
    return _full(state, ticket, (t for t in state.queue if t is not ticket))


def shorten(state: State) -> None:
    """Refuse tickets beyond a ``queue_depth`` that was made smaller. Older ones of the same or a higher class stay."""
    kept: list[Ticket] = []
    for ticket in sorted((t for t in state.queue if not t.outside_depth), key=lambda t: t.number):
        if refusal := _full(state, ticket, kept):
            refuse(state, ticket, refusal)
        else:
            kept.append(ticket)


def _full(state: State, ticket: Ticket, others: Iterable[Ticket]) -> Refusal | None:
    """The refusal of a ticket that has no place beside ``others``, not even one of its user's part.

    Nobody shuts others out by many requests: of four users that wait, each may have a quarter of the depth.
    """
    depth, who = state.policy.queue_depth, ticket.owner.who
    filling: Counter[User] = Counter(t.owner.who for t in others if _fills(state, t, ticket))
    if filling.total() < depth or filling[who] < depth // len(filling.keys() | {who}):
        return None
    return refusals.queue_full(state, ticket, filling)


def _fills(state: State, ticket: Ticket, newcomer: Ticket) -> bool:
    """Whether ``ticket`` takes a place in the queue that ``newcomer`` could have had. Lower classes do not.

    The newcomer's own tickets always do, or a user could have a queue for each of many low classes. A ticket that waits
    for its own user's quota takes a place only from that user.
    """
    mine = ticket.owner.who == newcomer.owner.who
    if not mine and over_quota(state, ticket):
        return False
    own = newcomer.ask.priority <= 0 and mine
    return not ticket.outside_depth and (own or ticket.ask.priority >= newcomer.ask.priority)
