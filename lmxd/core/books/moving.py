"""Moving: a lease that is to grow has a ticket, and goes to the ticket's instance once its conversation lies there."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from lmxd.core.books.endings import refuse, vacated
from lmxd.core.books.parking import stand_first
from lmxd.core.books.queue import rank
from lmxd.core.books.queueing import enter_queue
from lmxd.core.books.state import State
from lmxd.core.decisions import MoveLease, RefuseLease
from lmxd.core.events import ContextSeen, ConversationCarried, ConversationSaved, GrowthRequested
from lmxd.core.final_refusals import ASKED_AGAIN, LEASE_ENDED
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.moves import Move

GrowthFact: TypeAlias = GrowthRequested | ConversationSaved | ConversationCarried | ContextSeen


def growth_told(state: State, event: GrowthFact) -> None:
    """Take in that a growth is wanted, that a conversation was saved or carried, or how much context one needs."""
    if isinstance(event, GrowthRequested):
        _requested(state, event)
    elif isinstance(event, ConversationSaved):
        _saved(state, event)
    elif isinstance(event, ContextSeen):
        if (instance := state.instances.get(event.instance)) is not None and not instance.ends:
            instance.smaller = event.smaller
    elif (ticket := state.ticket(event.ticket)) is not None and ticket.carrying:
        lay = zip(ticket.carries, event.slots, strict=False)  # it may be of an earlier ticket of this lease
        state.step.carried.append((ticket, tuple((carry.slot, slot) for carry, slot in lay if slot is not None)))


def _saved(state: State, event: ConversationSaved) -> None:
    instance = state.instances.get(event.instance)
    if instance is not None and instance.saving:
        instance.saving, instance.saved = False, instance.saved | event.slots
        instance.carries += event.carries


def _requested(state: State, event: GrowthRequested) -> None:
    """Have a growth wait in the queue. One whose lease is over, or has enough context, is answered at once."""
    lease = state.lease(event.lease)
    if lease is None:
        state.step.decisions.append(
            RefuseLease(
                ticket=event.ticket,
                owner=event.owner,
                ask=event.ask,
                refusal=LEASE_ENDED,
                waited=0.0,
                moves=event.lease,
            )
        )
        return
    if lease.growing is not None:
        refuse(state, state.tickets[lease.growing], ASKED_AGAIN)
        state.step.serve_again = True
    ticket = _ticket(state, event, lease)
    if lease.parked is not None:
        lease.parked = replace(lease.parked, ask=event.ask)
        stand_first(ticket, lease.parked)
        state.step.touched.leases.add(lease.id)
    elif _has_enough(state, lease, event):
        slots = [carry.slot for carry in ticket.carries if carry.instance == lease.instance]
        ticket.instance, ticket.why = lease.instance, f"{lease.instance} has enough context"
        _answer(state, ticket, lease, before=lease, carried=tuple((slot, slot) for slot in slots))
        return
    ticket.rank = rank(ticket, state.policy, state.shares.lateness(ticket.owner, state.policy))
    lease.growing = ticket.id
    enter_queue(state, ticket)
    state.step.arrived = ticket


def _has_enough(state: State, lease: Lease, event: GrowthRequested) -> bool:
    """Whether a lease has all that its growth wants, and where it may be."""
    instance, ask = state.instances[lease.instance], event.ask
    return instance.id not in event.apart and instance.is_like(ask) and lease.slots >= ask.slots


def _ticket(state: State, event: GrowthRequested, lease: Lease) -> Ticket:
    state.counts["asked"] += 1
    return Ticket(
        id=event.ticket,
        number=state.counts["asked"],
        lease=lease.id,
        owner=replace(lease.owner, connection=event.owner.connection),
        ask=event.ask,
        hold=lease.hold,
        ttl=lease.ttl,
        asked_at=state.now,
        wait=event.wait,
        deadline_at=None if event.deadline is None else state.now + event.deadline,
        moves=lease.id,
        carries=() if event.carry is None else (event.carry,),
        near=lease.instance,
        apart=event.apart,
    )


def move_lease(state: State, ticket: Ticket, instance: Instance, carried: tuple[tuple[int, int], ...]) -> None:
    """Move the lease that grows to an instance, or have it have further slots of its own one.

    It does not end by that, nor is one granted.
    """
    assert ticket.moves is not None
    lease = state.leases[ticket.moves]
    before = replace(lease)
    state.drop_ticket(ticket)
    ticket.instance = instance.id
    state.drop_lease(lease)
    lease.instance, lease.growing, lease.parked = instance.id, None, None
    lease.slots, lease.size, lease.share = ticket.ask.slots, ticket.ask.portion, ticket.ask.share
    state.add_lease(lease)
    state.expire(lease, before.expires_at)
    instance.active_at = instance.used_at = state.now
    instance.keep_alive, instance.outgrown = None, False
    if _move(before) is Move.GROWN:
        instance.grown_at = state.now
    if before.parked is None and before.instance != instance.id:
        _leave(state, state.instances[before.instance], before)
    state.step.touched.instances.add(instance.id)
    state.step.serve_again = True
    _answer(state, ticket, lease, before, carried)


def _leave(state: State, left: Instance, before: Lease) -> None:
    """Note that a lease has moved away from an instance."""
    left.active_at = left.used_at = state.now
    if left.vacant:
        vacated(state, left, before, patience=0.0)
        left.outgrown = left.ask.spread == 1
    state.step.touched.instances.add(left.id)


def _answer(state: State, ticket: Ticket, lease: Lease, before: Lease, carried: tuple[tuple[int, int], ...]) -> None:
    state.step.decisions.append(
        MoveLease(
            ticket=ticket.id,
            lease=lease.id,
            instance=lease.instance,
            before=before.instance,
            profile=ticket.ask.profile,
            owner=ticket.owner,
            waited=state.now - ticket.asked_at,
            carried=carried,
            widened=lease.instance == before.instance and lease.slots > before.slots,
            move=_move(before),
            why=ticket.why,
        )
    )


def _move(before: Lease) -> Move:
    return Move.GROWN if before.parked is None else before.parked.move
