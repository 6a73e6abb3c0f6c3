"""Standstill: growths of which each keeps what another waits for, a quota or the bytes of a pinned instance.

In: the growths in the queue. Out: refusals. The rule: what all others have comes free sometime, but a lease that waits
to grow counts until it has moved, and a pinned instance does not end for it. If some growths could not be served even
so, the last of them is refused; its lease stays, and its holder may release it for a new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lmxd.core.answers import Refusal
from lmxd.core.books.endings import refuse
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.policy import refusals
from lmxd.core.words import DeviceId


def end_standstill(state: State) -> None:
    """Refuse the growths that could never be served, as long as those before them are to be."""
    while left := _stuck(state):
        never = next((t for t in left if not _could_be_served(state, t, (t,))), None)
        if never is not None:
            refuse(state, never, _refusal(state, never, (never,)))
        else:
            refuse(state, left[-1], _refusal(state, left[-1], left))
        state.step.serve_again = True


def _stuck(state: State) -> list[Ticket]:
    """The growths that wait for each other, or could not be served alone; in order of the queue."""
    left = [t for t in state.queue if t.moves is not None] if state.policy.enforce else []
    while served := [t for t in left if _could_be_served(state, t, left)]:
        left = [t for t in left if t not in served]
    return left


def _refusal(state: State, ticket: Ticket, waiting: Sequence[Ticket]) -> Refusal:
    if not _within_quotas(state, ticket, waiting) and (quota := over_quota(state, ticket)):
        return refusals.beyond_quota(quota, "ask for less")
    if len(waiting) == 1:
        return refusals.never_beside(state, ticket)
    return refusals.standstill(state, ticket, waiting)


def _could_be_served(state: State, ticket: Ticket, waiting: Sequence[Ticket]) -> bool:
    """Whether a growth will be served if only the leases of those that wait go on."""
    if not _within_quotas(state, ticket, waiting):
        return False
    homes = state.among(state.leases[t.moves].instance for t in waiting if t.moves is not None and not t.parked)
    held = {i.id for i in homes}
    if any(i.id not in held or i.serves(ticket.ask) for i in state.able(ticket.ask)):
        return True
    had: Counter[DeviceId] = Counter()
    for pinned in (i for i in homes if i.ask.pin):
        had.update(state.ledger.charge(pinned.id))
    beside = ({device: need + had[device] for device, need in o.demand.items()} for o in ticket.ask.options)
    return any(state.ledger.could_ever_fit(both) for both in beside)


def _within_quotas(state: State, ticket: Ticket, waiting: Sequence[Ticket]) -> bool:
    """Whether its user's quotas of bytes leave room for a growth beside the other leases that wait to grow."""
    for who, _, quota in state.shares.bounds(ticket.owner, state.policy):
        if quota.max_bytes is not None:
            theirs = [t for t in waiting if t is not ticket and who in state.shares.binding(t.owner, state.policy)]
            had = sum(state.leases[t.moves].size for t in theirs if t.moves is not None)
            if had + ticket.ask.portion > quota.max_bytes:
                return False
    return True
