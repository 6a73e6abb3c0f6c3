"""What a swap costs, and for how long an instance goes on serving though others wait for its bytes.

A swap there and back costs two loads, during which the bytes serve nobody. An instance whose turn lasts
``quantum_loads`` times that long loses at most 1 / (1 + quantum_loads) of the time to loading, however many want
its bytes. A turn begins when the instance becomes ready; who comes when it is over need not wait for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from lmxd.core.instances import Instance, Ticket
from lmxd.core.state import State
from lmxd.core.words import Ask, Phase


@dataclass(frozen=True, slots=True)
class Claim:
    """What an instance has to say against making way, whoever waits for its bytes.

    ``since``: when its turn began. ``load``: seconds to load it again. ``highest``: the highest class that uses it.
    ``ahead``: seconds by which those who use it would stand before others who ask at the same time.
    """

    since: float
    load: float
    highest: float
    ahead: float

    def lasts(self, now: float, ticket: Ticket, load: float, quantum_loads: float) -> float:
        """Until when it holds against ``ticket``, whose model takes ``load`` seconds; never before now.

        Until its turn is over, unless only lower classes use it; and as long as those who want it would stand
        before ``ticket`` even if they asked only now.
        """
        if self.highest < ticket.ask.priority:
            return max(now, self.since)
        return max(now, self.since + quantum_loads * (self.load + load), ticket.rank + self.ahead)


def claim(state: State, instance: Instance) -> Claim:
    """Of one that nobody has: that somebody is about to come back."""
    load = load_seconds(state, instance.ask)
    if instance.vacant:
        return Claim(instance.stays_until, load, -inf, -inf)
    users = [(x.priority, x.owner) for x in instance.leases.values()]
    users += [(t.ask.priority, t.owner) for t in instance.tickets.values()]
    shares, policy = state.shares, state.policy
    return Claim(
        since=max(state.now, instance.started_at + load) if instance.phase is Phase.STARTING else instance.turn_at,
        load=load,
        highest=max(priority for priority, _ in users),
        ahead=max(priority * policy.aging - shares.lateness(owner, policy) for priority, owner in users),
    )


def closes_at(state: State, instance: Instance, ticket: Ticket) -> float:
    """When it may be closed for ``ticket``: it takes no new ones from then on. Never before now."""
    load = load_seconds(state, ticket.ask)
    return claim(state, instance).lasts(state.now, ticket, load, state.policy.quantum_loads)


def price(state: State, instance: Instance, ask: Ask) -> float:
    """Seconds that it takes to load what ``ask`` wants and, later, what the instance serves now."""
    return load_seconds(state, instance.ask) + load_seconds(state, ask)


def load_seconds(state: State, ask: Ask) -> float:
    """Seconds that an instance for it is expected to take to load."""
    return state.expectations.launch(ask.profile, ask.size)
