"""What a swap costs, and for how long an instance goes on serving though others wait for its bytes.

A swap there and back costs two loads, during which the bytes serve nobody. An instance whose turn lasts
``quantum_loads`` times that long loses at most 1 / (1 + quantum_loads) of the time to loading, however many want
its bytes. It also has to fill its caches anew: a turn is no shorter than a few of its answers, within limits. A turn
begins when the instance becomes ready; who comes when it is over need not wait for another.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from lmxd.core.books.state import State
from lmxd.core.instances import Instance, Ticket
from lmxd.core.words import Ask, Phase

_ANSWERS: Final = 5
"""So many answers, one after the other, fit into the shortest turn: the first ones find no prompt in the cache."""
_SHORTEST: Final = 10.0
"""Seconds that the shortest turn lasts at most: some leases are held for hours."""


class Claim(NamedTuple):
    """What an instance has to say against making way, whoever waits for its bytes.

    ``since``: when its turn began. ``load``: seconds to load it again. ``shortest``: seconds that its turn lasts in any
    case. ``highest``: the highest class that uses it. ``ahead``: seconds by which those who use it would stand before
    others who ask at the same time.
    """

    since: float
    load: float
    shortest: float
    highest: float
    ahead: float

    def lasts(self, now: float, ticket: Ticket, load: float, quantum_loads: float) -> float:
        """Until when it holds against ``ticket``, whose model takes ``load`` seconds; never before now.

        Until its turn is over, unless only lower classes use it; and as long as those who want it would stand
        before ``ticket`` even if they asked only now.
        """
        if self.highest < ticket.ask.priority:
            return max(now, self.since)
        return max(now, self.turn_ends(load, quantum_loads), ticket.rank + self.ahead)

    def turn_ends(self, load: float, quantum_loads: float) -> float:
        """When its turn is over, whose model takes ``load`` seconds that is to come after it."""
        return self.since + max(self.shortest, quantum_loads * (self.load + load))


def claim(state: State, instance: Instance) -> Claim:
    """Of one that nobody has: that somebody is about to come back."""
    load = load_seconds(state, instance.ask)
    if instance.vacant:
        return Claim(instance.stays_until, load, 0.0, -inf, -inf)
    shares, policy = state.shares, state.policy
    users = [(x.priority, x.owner) for x in instance.leases.values()]
    users += [(t.ask.priority, t.owner) for t in instance.tickets.values()]
    ahead = [priority * policy.aging - shares.lateness(owner, policy) for priority, owner in users]
    return Claim(
        since=_turn_begins(state, instance, load),
        load=load,
        shortest=_shortest(state, instance),
        highest=max([priority for priority, _ in users]),
        ahead=-inf if instance.unused(state.now) else max(ahead),
    )


def turn_ends(state: State, instance: Instance, ticket: Ticket) -> float:
    """When its turn is over for ``ticket``, whether or not somebody has it now."""
    loads = state.policy.quantum_loads * price(state, instance, ticket.ask)
    return instance.turn_at + max(_shortest(state, instance), loads)


def _turn_begins(state: State, instance: Instance, load: float) -> float:
    if instance.phase is Phase.STARTING:
        return max(state.now, instance.loaded_at(load, state.now))
    return instance.turn_at


def _shortest(state: State, instance: Instance) -> float:
    """Seconds that its turn lasts in any case."""
    held = state.expectations.held_for(instance.ask.profile)
    return min(_SHORTEST, _ANSWERS * held) if state.policy.quantum_loads else 0.0


def closes_at(state: State, instance: Instance, ticket: Ticket) -> float:
    """When it may be closed for ``ticket``: it takes no new ones from then on. Never before now."""
    load = load_seconds(state, ticket.ask)
    return claim(state, instance).lasts(state.now, ticket, load, state.policy.quantum_loads)


def serves_until(state: State, instance: Instance, ticket: Ticket) -> float:
    """The same as it is told; of an instance that nobody uses, when the last lease on it ends at the latest.

    A time that was decided while nobody had it for a moment does not stand when somebody does.
    """
    if instance.unused(state.now):
        return max(state.now, *(instance.ends_unused(lease) for lease in instance.leases.values()))
    if instance.closed:
        return state.now
    until = closes_at(state, instance, ticket)
    return until if instance.swap is None else max(until, instance.swap.closes_at)


def is_fair(state: State, instance: Instance, ticket: Ticket) -> bool:
    """Whether it goes on for longer than its turn lasts, because its users had less than ``ticket``'s."""
    if instance.closed or instance.vacant:
        return False
    mine = claim(state, instance)
    turn_ends = mine.turn_ends(load_seconds(state, ticket.ask), state.policy.quantum_loads)
    return mine.highest >= ticket.ask.priority and ticket.rank + mine.ahead > max(state.now, turn_ends)


def price(state: State, instance: Instance, ask: Ask) -> float:
    """Seconds that it takes to load what ``ask`` wants and, later, what the instance serves now."""
    return load_seconds(state, instance.ask) + load_seconds(state, ask)


def load_seconds(state: State, ask: Ask) -> float:
    """Seconds that an instance for it is expected to take to load."""
    return state.expectations.launch(ask.profile, ask.size)
