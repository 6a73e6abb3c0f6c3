"""What a swap costs, and for how long an instance goes on serving though others wait for its bytes.

A swap there and back costs two loads, during which the bytes serve nobody. An instance whose turn lasts
``quantum_loads`` times that long loses at most 1 / (1 + quantum_loads) of the time to loading, however many want
its bytes. A turn begins when the instance becomes ready; who comes when it is over need not wait for another.
"""

from __future__ import annotations

from lmxd.core.instances import Instance, Ticket
from lmxd.core.state import State
from lmxd.core.words import Ask, Phase


def price(state: State, instance: Instance, ask: Ask) -> float:
    """Seconds that it takes to load what ``ask`` wants and, later, what the instance serves now."""
    return _load(state, instance.ask) + _load(state, ask)


def _load(state: State, ask: Ask) -> float:
    return state.expectations.launch(ask.profile, ask.size)


def closes_at(state: State, instance: Instance, ticket: Ticket) -> float:
    """When it may be closed for ``ticket``: it takes no new ones from then on. Never before now.

    Not before its turn is over, unless it serves only lower classes; and not while those who want it would
    stand before ``ticket`` even if they asked only now.
    """
    if instance.vacant:
        return max(state.now, instance.stays_until)
    users = [(x.priority, x.owner) for x in instance.leases.values()]
    users += [(t.ask.priority, t.owner) for t in instance.tickets.values()]
    if all(priority < ticket.ask.priority for priority, _ in users):
        return max(state.now, _ready_at(state, instance))
    shares, policy = state.shares, state.policy
    ahead = max(priority * policy.aging - shares.lateness(owner.uid, policy) for priority, owner in users)
    return max(state.now, turn_ends(state, instance, ticket.ask), ticket.rank + ahead)


def turn_ends(state: State, instance: Instance, ask: Ask) -> float:
    """When its turn is over, if ``ask`` is what waits for it."""
    return _ready_at(state, instance) + state.policy.quantum_loads * price(state, instance, ask)


def _ready_at(state: State, instance: Instance) -> float:
    """When its turn began, or is expected to: the load may take longer than it usually does."""
    if instance.phase is Phase.STARTING:
        return max(state.now, instance.started_at + _load(state, instance.ask))
    return instance.turn_at
