"""Endings: a ticket is refused, a lease or a yield ends, an instance is stopped. Facts and policy use the same."""

from __future__ import annotations

from typing import Final

from lmxd.core.answers import Refusal
from lmxd.core.books.queueing import wait_again
from lmxd.core.books.state import State
from lmxd.core.decisions import EndLease, RefuseLease, StopInstance
from lmxd.core.final_refusals import DRAINING, LEASE_ENDED, STOPPED
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.reasons import EndReason
from lmxd.core.words import Cause, LeaseId, Phase

_LEASE_REASONS: Final = {
    Cause.IDLE: EndReason.IDLE_TIMEOUT,
    Cause.ADMIN: EndReason.STOPPED_BY_ADMIN,
    Cause.DRAIN: EndReason.DRAINING,
    Cause.PRESSURE: EndReason.YIELDED,
    Cause.PREEMPTED: EndReason.PREEMPTED,
}
"""The reason that the holders are given when an instance is stopped for a cause. Other causes need it to be vacant."""


def refuse(state: State, ticket: Ticket, refusal: Refusal) -> None:
    """Refuse a ticket, and remove it. A lease that was to grow by it stays where it is, and has been in use so far."""
    state.drop_ticket(ticket)
    if ticket.moves is not None:
        lease = state.leases[ticket.moves]
        lease.growing = None
        if lease.parked is not None:
            state.step.unplaced.append((lease, refusal))
        else:
            home = state.instances[lease.instance]
            home.active_at = state.now
            home.unsaved()  # it does not end for that any more
            state.step.touched.instances.add(home.id)
    if ticket.is_nobodys:
        return
    waited = state.now - ticket.asked_at
    state.step.decisions.append(
        RefuseLease(
            ticket=ticket.id,
            owner=ticket.owner,
            ask=ticket.ask,
            refusal=refusal,
            waited=waited,
            moves=ticket.moves,
        )
    )


def release(state: State, lease: LeaseId) -> None:
    """End a lease that its holder releases, if there is one of that id."""
    if found := state.lease(lease):
        end_lease(state, found, EndReason.RELEASED)


def end_lease(state: State, lease: Lease, reason: EndReason, detail: str = "") -> None:
    """End a lease, and tell its holder why. If it was to grow, that is refused."""
    if lease.growing is not None:
        refuse(state, state.tickets[lease.growing], LEASE_ENDED)
    state.drop_lease(lease)
    ask = state.instances[lease.instance].ask if lease.parked is None else lease.parked.ask
    if not ask.external:  # a hold's name is the client's choice, and no profile
        state.expectations.held(ask.profile, state.now - lease.granted_at)
        state.expectations.left(ask.profile, state.now)
    if lease.parked is None:
        _left(state, state.instances[lease.instance], lease)
    state.step.decisions.append(
        EndLease(lease=lease.id, instance=lease.instance, owner=lease.owner, reason=reason, detail=detail)
    )


def _left(state: State, instance: Instance, lease: Lease) -> None:
    """Note that a lease on an instance has ended."""
    if instance.vacant and not instance.ask.external:
        patience = state.expectations.patience(instance.ask.profile, instance.option.size)
        vacated(state, instance, lease, patience)
    instance.active_at = instance.used_at = max(instance.active_at, state.now)
    state.step.touched.instances.add(instance.id)


def vacated(state: State, instance: Instance, lease: Lease, patience: float) -> None:
    """Note that an instance has lost its last lease, whose holder is given ``patience`` seconds to come back."""
    instance.evictable_from = state.now + (0.0 if instance.turn_over(state.now) else patience)
    instance.busy, instance.checked_at = False, None  # it was busy perhaps only for that lease
    instance.vacant_since, instance.last_use = state.now, lease
    if state.shares.binding(lease.owner, state.policy):
        state.linger(instance, on=True)  # until its engine says that nothing was left behind


def stop(state: State, instance: Instance, cause: Cause, why: str, *, unasked: bool = False) -> None:
    """Stop an instance: its leases end first, then the process is told to stop. Its bytes stay charged."""
    if instance.ends:
        return
    assert instance.vacant or cause in _LEASE_REASONS, f"{instance.id} was to be {cause} under its holders"
    for lease in list(instance.leases.values()):
        end_lease(state, lease, _LEASE_REASONS[cause], why)
    for ticket in list(instance.tickets.values()):
        if ticket.parked and cause not in (Cause.DRAIN, Cause.ADMIN):
            wait_again(state, ticket)
        else:
            refuse(state, ticket, DRAINING if cause is Cause.DRAIN else STOPPED)
    instance.phase, instance.stopped_at = Phase.STOPPING, state.now
    state.retire(instance)
    state.step.decisions.append(StopInstance(instance=instance.id, cause=cause, why=why, unasked=unasked))
