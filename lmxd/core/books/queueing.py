"""Tickets enter the queue: as new requests, or again, since their instance did not wake."""

from __future__ import annotations

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.state import State
from lmxd.core.events import LeaseRequested
from lmxd.core.holders import Ticket


def ticket_of(state: State, event: LeaseRequested) -> Ticket:
    """The ticket of a request for a lease, which has not entered the queue yet."""
    return Ticket(
        id=event.ticket,
        number=state.counts["asked"],
        lease=event.lease,
        owner=event.owner,
        ask=event.ask,
        hold=event.hold,
        ttl=event.ttl,
        asked_at=state.now if event.asked_at is None else min(event.asked_at, state.now),
        wait=event.wait,
        deadline_at=None if event.deadline is None else state.now + event.deadline,
        key=event.key,
        digest=event.digest,
        near=event.near,
        apart=event.apart,
        first_asked_at=state.now - event.waited if event.waited else None,
    )


def enter_queue(state: State, ticket: Ticket) -> None:
    """Have a ticket wait: for as long as it would from now on, and until its deadline."""
    if not ticket.patient:
        state.impatient[ticket.id] = ticket
    elif ticket.wait is not None:
        state.alarms.set((AlarmKind.WAIT, ticket.id), state.now + ticket.wait)
    if ticket.deadline_at is not None:
        state.alarms.set((AlarmKind.DEADLINE, ticket.id), ticket.deadline_at)
    state.enqueue(ticket)


def wait_again(state: State, ticket: Ticket) -> None:
    """Put a ticket back into the queue, which was to be served by an instance that did not wake, or had to end.

    It was admitted before: it takes nobody's place, and those behind it do not get the bytes that come free.
    """
    state.drop_ticket(ticket)
    ticket.instance, ticket.told, ticket.outside_depth, ticket.carrying = None, None, True, False
    enter_queue(state, ticket)
    state.promise(ticket)
