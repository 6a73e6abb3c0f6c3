"""Parking: a lease whose instance ends before the next one is there. It has a ticket, and stands before all others.

Its bytes were its own, and it cannot go on where it was. So whatever becomes of the ticket, the lease gets another, for
what it had at worst, until it has an instance again or ends as any lease does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lmxd.core.answers import Refusal
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.endings import end_lease
from lmxd.core.books.queue import rank
from lmxd.core.books.queueing import enter_queue
from lmxd.core.books.state import State
from lmxd.core.holders import Lease, Ticket, own_ticket
from lmxd.core.instances import Instance
from lmxd.core.moves import Carry, Move, Parked
from lmxd.core.reasons import EndReason, RefusalCode
from lmxd.core.words import NO_CONNECTION, Ask, DeviceId, Phase, TicketId

_ENDED_BY: Final = {RefusalCode.DRAINING: EndReason.DRAINING, RefusalCode.STOPPED: EndReason.STOPPED_BY_ADMIN}
"""Refusals that end a parked lease, too."""
_CALLERS: Final = {RefusalCode.CANCELLED, RefusalCode.CLIENT_LEFT}
"""Refusals by which only the caller does not wait any more."""


def is_parkable(state: State, instance: Instance) -> bool:
    """Whether all leases of an instance wait to grow, and it may end before they have moved."""
    if not instance.leases or instance.tickets or instance.ask.pin or instance.phase is not Phase.READY:
        return False
    if instance.yielding is not None:
        return False  # its bytes are wanted for others
    growths = [state.waiting(x.growing) for x in instance.leases.values() if x.growing is not None]
    return len(growths) == len(instance.leases) and all(growths)


def own_bytes(state: State, ticket: Ticket, device: DeviceId) -> int:
    """The bytes of a device that a growth gets by having its lease parked."""
    if ticket.moves is None or ticket.parked:
        return 0
    instance = state.instances[state.leases[ticket.moves].instance]
    return state.ledger.charge(instance.id).get(device, 0) if is_parkable(state, instance) else 0


def park(state: State, instance: Instance) -> None:
    """Park the leases of an instance that is parkable and ends now."""
    for lease in list(instance.leases.values()):
        assert lease.growing is not None
        ticket = state.tickets[lease.growing]
        own = {carry.slot for carry in ticket.carries}
        carries = tuple(carry for carry in instance.carries if carry.slot in own)
        lease.parked = _parked(state, lease, instance, ticket.ask, carries)
        for kind in (AlarmKind.WAIT, AlarmKind.DEADLINE):
            state.alarms.clear((kind, ticket.id))
        state.impatient.pop(ticket.id, None)
        stand_first(ticket, lease.parked)
        state.queue.rank_anew(((ticket, rank(ticket, state.policy, 0.0)),))


def _parked(state: State, lease: Lease, instance: Instance, ask: Ask, carries: tuple[Carry, ...]) -> Parked:
    state.unseat(lease)
    return Parked(ask=ask, back=_theirs(instance.ask, lease), carries=carries)


def _theirs(ask: Ask, lease: Lease) -> Ask:
    """The ask of an instance, as the holder of a lease has it."""
    return replace(ask, slots=lease.slots, share=lease.share, priority=lease.priority)


def make_smaller(state: State, instance: Instance) -> None:
    """Have an instance that ends now make place for its smaller one: for its leases, or for whoever comes.

    Nobody knows which of several leases each conversation is of, so that all go along with the first.
    """
    assert instance.smaller is not None
    instance.shrinking, carries = not instance.leases, instance.carries
    for lease in list(instance.leases.values()):
        lease.parked = _parked(state, lease, instance, _theirs(instance.smaller, lease), carries)
        wait_for_place(state, lease, lease.parked)
        carries = ()


def stand_first(ticket: Ticket, parked: Parked) -> None:
    """Have a ticket of a parked lease wait before all others, for as long as it takes."""
    ticket.parked, ticket.outside_depth, ticket.carries = True, True, parked.carries
    ticket.wait = ticket.deadline_at = None


def place_anew(state: State) -> bool:
    """Have parked leases wait anew whose tickets were refused, or end them.

    Returns whether the queue is to be served again for that.
    """
    unplaced, state.step.unplaced = state.step.unplaced, []
    for lease, refusal in unplaced:
        if lease.id in state.leases and lease.growing is None:  # it has neither ended nor asked again
            _place_anew(state, lease, refusal)
    found, state.step.placed = state.step.placed, False
    return found or bool(unplaced)


def _place_anew(state: State, lease: Lease, refusal: Refusal) -> None:
    assert lease.parked is not None
    if reason := _ENDED_BY.get(refusal.code):
        end_lease(state, lease, reason)
        return
    if refusal.code not in _CALLERS:
        if lease.parked.move is Move.RETURNED:
            end_lease(state, lease, EndReason.INSTANCE_EXITED, refusal.message)
            return
        lease.parked = replace(lease.parked, ask=lease.parked.back)
    wait_for_place(state, lease, lease.parked)


def wait_for_place(state: State, lease: Lease, parked: Parked) -> None:
    """Give a parked lease a ticket that nobody asked for."""
    state.counts["asked"] += 1
    ticket = Ticket(
        id=own_ticket(lease.id),
        number=state.counts["asked"],
        lease=lease.id,
        owner=replace(lease.owner, connection=NO_CONNECTION),
        ask=parked.ask,
        hold=lease.hold,
        ttl=lease.ttl,
        asked_at=state.now,
        wait=None,
        deadline_at=None,
        moves=lease.id,
    )
    stand_first(ticket, parked)
    ticket.rank = rank(ticket, state.policy, 0.0)
    lease.growing = ticket.id
    enter_queue(state, ticket)
    state.step.touched.leases.add(lease.id)
    state.step.serve_again = state.step.placed = True


def change_ask(state: State, name: TicketId, ask: Ask) -> None:
    """Give a waiting ticket a new ask."""
    ticket = state.waiting(name)
    if ticket is None:
        return
    state.queue.remove(ticket)
    ticket.ask, state.step.refuse_again = ask, True
    state.queue.add(ticket)
    lease = None if ticket.moves is None else state.leases[ticket.moves]
    if lease is not None and lease.parked is not None:
        returns = lease.parked.move is Move.RETURNED
        lease.parked = replace(lease.parked, ask=ask, back=ask if returns else lease.parked.back)
        state.step.touched.leases.add(lease.id)
