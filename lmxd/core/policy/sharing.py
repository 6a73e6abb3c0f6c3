"""Slots of what runs: given to whoever can have one, in order of the queue, at no bytes."""

from __future__ import annotations

from collections.abc import Collection

from lmxd.core.books.state import State
from lmxd.core.instances import Instance, Ticket
from lmxd.core.policy.starts import attach
from lmxd.core.words import Kind, Phase


def share(state: State, kinds: Collection[Kind]) -> None:
    """Serve whoever can be served by what runs, at no bytes, in order."""
    left = {kind for kind in kinds if kind in state.open}
    for ticket in state.queue.of(*left):
        if ticket.ask.kind in left and not state.over_quota(ticket):
            serve_slot(state, ticket)
            if ticket.ask.kind not in state.open:
                left.discard(ticket.ask.kind)
                if not left:
                    break


def serve_slot(state: State, ticket: Ticket) -> Instance | None:
    """Give it a slot of a running instance, if one serves it: ready before starting, the snuggest first."""
    kin = state.open.get(ticket.ask.kind)
    serving = [i for i in kin.values() if i.serves(ticket.ask)] if kin else []
    if not serving:
        return None
    found = min(serving, key=lambda i: (i.phase is not Phase.READY, i.ask.context, i.free_slots))
    if found.vacant:
        state.reach.keep(found, state.ledger.charge(found.id))
    attach(state, ticket, found, f"{found.id} has a free slot, enough context and the same settings")
    return found
