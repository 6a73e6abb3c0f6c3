"""Differences: a growth that does not fit beside its instance gets the bytes of that one, which ends first.

In: a growth, and the bytes in reach. Out: an ``EvictionPlan``. The rule: its own instance costs nothing, if nobody else
has a conversation there. If idle instances do not suffice beside it, those end whose leases wait to grow, too: each
keeps what another waits for, and their leases are parked.
"""

from __future__ import annotations

from collections.abc import Set
from itertools import islice
from typing import Final

from lmxd.core.books.parking import is_parkable
from lmxd.core.books.reach import Reach
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.eviction import NOBODY, Candidate, EvictionPlan, candidate, plan_of
from lmxd.core.policy.measuring import disturbs
from lmxd.core.words import InstanceId

_HELD: Final = 1000
"""The rank of an instance whose leases wait to grow: above every class, which is 100 or lower."""
_WEIGHED: Final = 8
"""The number of options for which a plan is made, to bound the time."""


def by_difference(state: State, reach: Reach, ticket: Ticket, spills: float) -> EvictionPlan | None:
    """The cheapest plan that lets a growth fit, with less than ``spills`` of it in RAM; None if there is none."""
    stay = _stay(state, ticket)
    held = [_candidate(state, i, ticket) for i in _parkable(state) if i.id not in stay]
    options = (o for o in ticket.ask.options if o.spills < spills and reach.short.isdisjoint(o.demand))
    usable = (o for o in options if all(state.ledger.usable(device) for device in o.demand))
    plans = (plan_of(state, reach, option, held, stay) for option in islice(usable, _WEIGHED))
    return min((plan for plan in plans if plan is not None), key=lambda plan: plan.price, default=None)


def _stay(state: State, ticket: Ticket) -> Set[InstanceId]:
    """The instances of its own model that do not end for a growth that could share one: others may go on with them."""
    if not ticket.apart:
        return frozenset()
    kin = state.live_by_kind.get(ticket.ask.kind, {})
    return {i.id for i in kin.values() if i.id in ticket.apart or i.ask.spread > 1}


def _parkable(state: State) -> list[Instance]:
    """The instances that may end under leases that wait to grow."""
    homes = (state.leases[t.moves].instance for t in state.queue if t.moves is not None and not t.parked)
    found = state.among(dict.fromkeys(homes))
    return [i for i in found if is_parkable(state, i) and not i.busy and not disturbs(state, i)]


def _candidate(state: State, instance: Instance, ticket: Ticket) -> Candidate:
    if ticket.moves not in instance.leases:
        return candidate(state, instance, rank=_HELD)
    if instance.ask.spread > 1:  # it has conversations of others, who have no lease just now
        return candidate(state, instance)
    return candidate(state, instance, rank=NOBODY)._replace(cost=0.0)
