"""Sharing: give the free slots of running instances to waiting tickets, in order of the queue. It takes no bytes."""

from __future__ import annotations

from collections.abc import Collection

from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.room import check
from lmxd.core.policy.starts import attach
from lmxd.core.words import Kind, Phase


def share(state: State, kinds: Collection[Kind]) -> None:
    """Serve tickets of ``kinds`` by free slots, in order."""
    while _share_once(state, kinds):
        pass


def _share_once(state: State, kinds: Collection[Kind]) -> bool:
    """Returns whether one was passed over before another was served, by which an engine is no longer in doubt."""
    left = {kind for kind in kinds if kind in state.with_free_slots}
    passed, again = set[Kind](), False
    for ticket in state.queue.of(*left):
        kind = ticket.ask.kind
        if kind not in left or over_quota(state, ticket):
            continue
        if serve_slot(state, ticket) is not None:
            again |= kind in passed
        elif is_being_asked(state, ticket):
            passed.add(kind)
        if kind not in state.with_free_slots:
            left.discard(kind)
            if not left:
                return False
    return again


def serve_slot(state: State, ticket: Ticket) -> Instance | None:
    """Give a ticket a slot of an instance that serves it, if there is one that it does not keep apart from.

    The one that it wants to be near comes first, then one on which a lease of its user lingers. Then a
    ready instance comes before a starting one, then the one with the smallest context, then the fullest. Engines that
    another user has just left are asked if they are idle.
    """
    able = _able(state, ticket)
    if not able:
        return None
    serving = [i for i in able if i.is_handed_over(ticket.owner.uid, state.now)]
    if not serving:
        for instance in able:
            check(state, instance)
        return None
    found = min(
        serving,
        key=lambda i: (
            i.id != ticket.near,
            not state.lingering.is_of(i, ticket.owner),
            i.phase is not Phase.READY,
            i.ask.context,
            i.free_slots,
        ),
    )
    if found.vacant:
        state.reach.keep(found, state.ledger.charge(found.id))
    attach(state, ticket, found, f"{found.id} has a free slot, enough context and the same settings")
    return found


def is_being_asked(state: State, ticket: Ticket) -> bool:
    """Whether the engine of an instance that serves a ticket is being asked if another user left work behind there.

    One that said so already is not waited for: it is ended like others whose bytes are needed, after the grace.
    """
    return any(i.checking and not i.busy for i in _able(state, ticket))


def _able(state: State, ticket: Ticket) -> list[Instance]:
    """The instances with a free slot that serve a ticket."""
    kin = state.with_free_slots.get(ticket.ask.kind)
    return [i for i in kin.values() if i.id not in ticket.apart and i.serves(ticket.ask, ticket.moves)] if kin else []
