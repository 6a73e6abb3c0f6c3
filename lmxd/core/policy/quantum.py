"""The quantum: for how long an instance goes on serving though others wait for its bytes.

In: an instance and a waiting ticket. Out: the time at which the instance may be closed for the ticket. The rule: a turn
lasts ``quantum_loads`` times what loading both models takes, from when the instance became ready.

A swap there and back costs two loads, in which the bytes serve nobody. So at most 1 / (1 + quantum_loads) of the time
is lost: with 2.65 and two models of 5 s each, a turn lasts 26.5 s, and 27 % is lost. The instance must also fill its
prompt caches again, so that a turn lasts at least a few answers.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from lmxd.core.books.sleeping import SLEEPLESS
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.words import Ask, Phase

_ANSWERS: Final = 5
"""The number of answers that fit into the shortest turn: the first ones find no prompt in the cache."""
_SHORTEST: Final = 10.0
"""Seconds that the shortest turn lasts at most, for the leases of some models last for hours."""


class Claim(NamedTuple):
    """The right of an instance to go on serving while tickets wait for its bytes.

    ``since``: the start of its turn. ``load``: seconds to load it again. ``shortest``: the shortest length of its turn.
    ``highest``: the highest class that uses it. ``ahead``: seconds by which its users would stand before others who ask
    at the same time.
    """

    since: float
    load: float
    shortest: float
    highest: float
    ahead: float

    def lasts(self, now: float, ticket: Ticket, load: float, quantum_loads: float) -> float:
        """The time until which the claim holds against ``ticket``, whose model takes ``load`` seconds.

        It is never before now. The claim holds until the turn is over, unless all its users are of lower classes. It
        also holds as long as its users would stand before ``ticket`` even if they asked only now.
        """
        if self.highest < ticket.ask.priority:
            return max(now, self.since)
        turn = max(self.shortest, quantum_loads * (self.load + load))
        return max(now, self.since + turn, ticket.rank + self.ahead)


def claim(state: State, instance: Instance) -> Claim:
    """The claim of an instance. A vacant one has it only while its last client is expected back."""
    load = reload_seconds(state, instance)
    if instance.vacant:
        return Claim(instance.evictable_from, load, 0.0, -inf, -inf)
    shares, policy = state.shares, state.policy
    users = [(x.priority, x.owner) for x in instance.leases.values()]
    users += [(t.ask.priority, t.owner) for t in instance.tickets.values()]
    ahead = [priority * policy.aging - shares.lateness(owner, policy) for priority, owner in users]
    return Claim(
        since=_turn_begins(state, instance, seconds_to_ready(state, instance)),
        load=load,
        shortest=_shortest(state, instance),
        highest=max([priority for priority, _ in users]),
        ahead=-inf if instance.unused(state.now) else max(ahead),
    )


def turn_ends(state: State, instance: Instance, ticket: Ticket) -> float:
    """The end of an instance's turn for ``ticket``, whether or not it is in use now."""
    loads = state.policy.quantum_loads * price(state, instance, ticket.ask)
    begins = _turn_begins(state, instance, seconds_to_ready(state, instance))
    return begins + max(_shortest(state, instance), loads)


def _turn_begins(state: State, instance: Instance, load: float) -> float:
    """The time at which it becomes ready, or has become."""
    if instance.ready_at is None:
        return max(state.now, instance.loaded_at(load, state.now))
    return instance.ready_at


def _shortest(state: State, instance: Instance) -> float:
    """Seconds that its turn lasts at least: those of a few answers, or 10 s if these take longer."""
    held = state.expectations.held_for(instance.ask.profile)
    return min(_SHORTEST, _ANSWERS * held) if state.policy.quantum_loads else 0.0


def closes_at(state: State, mine: Claim, ticket: Ticket) -> float:
    """The time until which a claim holds against ``ticket``; never before now."""
    return mine.lasts(state.now, ticket, load_seconds(state, ticket.ask), state.policy.quantum_loads)


def serves_until(state: State, instance: Instance, ticket: Ticket) -> float:
    """The closing time as clients see it; for an unused instance, the latest end of its last lease.

    A swap may have been decided while the instance was vacant for a moment. If it is in use again, its claim counts.
    """
    if instance.unused(state.now):
        return max(state.now, *(instance.ends_unused(lease) for lease in instance.leases.values()))
    if instance.closed:
        return state.now
    until = closes_at(state, claim(state, instance), ticket)
    return until if instance.swap is None else max(until, instance.swap.closes_at)


def is_fair(state: State, instance: Instance, ticket: Ticket) -> bool:
    """Whether an instance serves for longer than its turn, because its users had less than the ticket's user."""
    if instance.closed or instance.vacant:
        return False
    mine, ends = claim(state, instance), max(state.now, turn_ends(state, instance, ticket))
    return mine.highest >= ticket.ask.priority and ticket.rank + mine.ahead > ends


def price(state: State, instance: Instance, ask: Ask) -> float:
    """Seconds to load the model of ``ask`` now, and the instance's own model again later."""
    return reload_seconds(state, instance) + load_seconds(state, ask)


def load_seconds(state: State, ask: Ask) -> float:
    """Seconds that an instance for ``ask`` is expected to take to load; to wake, if one of them sleeps."""
    if state.asleep and any(i.is_like(ask) for i in state.asleep.values()):
        return state.expectations.wake(ask.profile, ask.size)
    return state.expectations.launch(ask.profile, ask.size, ask.begun)


def reload_seconds(state: State, instance: Instance) -> float:
    """Seconds to have an instance again that makes way: to load it, or to wake it as it was woken before."""
    profile, size = instance.ask.profile, instance.option.size
    naps = instance.ask.sleeps and profile in state.residues and profile in state.expectations.wakes
    if naps and instance.live and state.residues[profile] < SLEEPLESS:
        return state.expectations.wake(profile, size)
    return state.expectations.launch(profile, size, instance.ask.begun)


def seconds_to_ready(state: State, instance: Instance) -> float:
    """Seconds that it takes an instance to be ready from when it began to load, or to wake."""
    profile, size = instance.ask.profile, instance.option.size
    if instance.phase is Phase.WAKING:
        return state.expectations.wake(profile, size)
    return state.expectations.launch(profile, size, instance.ask.begun)
