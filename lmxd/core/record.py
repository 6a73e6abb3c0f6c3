"""The first half of ``handle``: take one fact into the state. What follows from it is policy's business.

A fact about an id that is not known is a late report and changes nothing.
"""

from __future__ import annotations

from lmxd.core import events as e
from lmxd.core.decisions import EndLease, ForgetInstance, RefuseLease, StopInstance
from lmxd.core.state import Instance, Lease, State, Ticket
from lmxd.core.words import Cause, Failure, Hold, Phase, Refusal


def record(state: State, event: e.Event) -> None:
    """Dispatch on the kind of fact."""
    state.now = max(state.now, event.at)
    match event:
        case e.LeaseRequested():
            _lease_requested(state, event)
        case e.LeaseReleased():
            if lease := state.lease(event.lease):
                end_lease(state, lease, "released")
        case e.LeaseRenewed():
            _lease_renewed(state, event)
        case e.AskChanged():
            if ticket := state.queue.get(event.ticket):
                ticket.ask = event.ask
        case e.TicketCancelled():
            _ticket_cancelled(state, event)
        case e.ClientLeft():
            _client_left(state, event)
        case e.InstanceReady():
            _instance_ready(state, event)
        case e.InstanceExited():
            _instance_exited(state, event)
        case e.ActivitySeen():
            _activity_seen(state, event)
        case e.StopRequested():
            if instance := state.instances.get(event.instance):
                stop(state, instance, Cause.ADMIN)
        case e.DrainRequested():
            _drain_requested(state)
        case e.MemoryMeasured():
            for freed in state.ledger.measure(event.readings, event.begun):
                del state.instances[freed]
                state.outbox.append(ForgetInstance(instance=freed))
        case e.PolicyChanged():
            state.queue_depth, state.enforce = event.queue_depth, event.enforce
        case e.TimePassed():
            pass
        case _:
            raise AssertionError(f"no such fact: {event!r}")


def refuse(state: State, ticket: Ticket, refusal: Refusal) -> None:
    """Answer a ticket with no, and drop it."""
    state.drop_ticket(ticket.id)
    state.outbox.append(
        RefuseLease(
            ticket=ticket.id, owner=ticket.owner, ask=ticket.ask, refusal=refusal, waited=state.now - ticket.asked_at
        )
    )


def end_lease(state: State, lease: Lease, reason: str, detail: str = "") -> None:
    """End a lease and tell its holder why."""
    instance = state.instances[lease.instance]
    del instance.leases[lease.id]
    instance.active_at = max(instance.active_at, state.now)
    state.outbox.append(
        EndLease(lease=lease.id, instance=lease.instance, owner=lease.owner, reason=reason, detail=detail)
    )


def stop(state: State, instance: Instance, cause: Cause) -> None:
    """End an instance: its leases first, then the process. Its bytes stay charged."""
    if instance.phase not in (Phase.STARTING, Phase.READY):
        return
    assert instance.vacant or cause in _LEASE_REASONS, f"{instance.id} was to be {cause} under its holders"
    for lease in list(instance.leases.values()):
        end_lease(state, lease, _LEASE_REASONS[cause])
    instance.phase = Phase.STOPPING
    for ticket in list(instance.tickets.values()):
        refuse(state, ticket, DRAINING if cause is Cause.DRAIN else STOPPED)
    state.outbox.append(StopInstance(instance=instance.id, cause=cause))


_LEASE_REASONS = {
    Cause.IDLE: "idle_timeout",
    Cause.ADMIN: "stopped_by_admin",
    Cause.DRAIN: "draining",
}
DRAINING = Refusal(code="draining", message="lmxd is shutting down", remedy="ask again once it has restarted")
STOPPED = Refusal(code="stopped", message="the instance was stopped while it was starting", remedy="ask again")


def _lease_requested(state: State, event: e.LeaseRequested) -> None:
    state.queue[event.ticket] = Ticket(
        id=event.ticket,
        lease=event.lease,
        owner=event.owner,
        ask=event.ask,
        hold=event.hold,
        ttl=event.ttl,
        asked_at=state.now,
        expires_at=None if event.wait is None else state.now + event.wait,
    )


def _lease_renewed(state: State, event: e.LeaseRenewed) -> None:
    lease = state.lease(event.lease)
    if lease is None:
        return
    state.instances[lease.instance].active_at = state.now
    if lease.hold is Hold.TTL:
        lease.ttl = event.ttl if event.ttl is not None else lease.ttl
        lease.expires_at = state.now + (lease.ttl or 0)


def _ticket_cancelled(state: State, event: e.TicketCancelled) -> None:
    if ticket := state.ticket(event.ticket):
        refuse(state, ticket, Refusal(code="cancelled", message="the request was cancelled"))


def _client_left(state: State, event: e.ClientLeft) -> None:
    tickets = list(state.queue.values()) + [t for i in state.instances.values() for t in i.tickets.values()]
    for ticket in tickets:
        if ticket.owner.connection == event.connection:
            refuse(state, ticket, Refusal(code="client_left", message="the client closed its connection"))
    for lease in list(state.leases()):
        if lease.hold is Hold.CONNECTION and lease.owner.connection == event.connection:
            end_lease(state, lease, "connection_closed")


def _instance_ready(state: State, event: e.InstanceReady) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is not Phase.STARTING:
        return
    instance.phase = Phase.READY
    instance.ready_at = instance.active_at = state.now


def _instance_exited(state: State, event: e.InstanceExited) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is Phase.RECLAIMING:
        return
    failure = event.failure or Failure(code="exited", message="the instance ended")
    instance.phase = Phase.RECLAIMING
    state.ledger.mark_exited(instance.id, state.now)
    for lease in list(instance.leases.values()):
        end_lease(state, lease, "instance_exited", failure.message)
    for ticket in list(instance.tickets.values()):
        refuse(state, ticket, Refusal(code="launch_failed", message=failure.message, failure=failure))


def _activity_seen(state: State, event: e.ActivitySeen) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is not Phase.READY:
        return
    instance.checking, instance.busy, instance.checked_at = False, event.busy, state.now
    if event.busy or event.worked:
        instance.active_at = state.now


def _drain_requested(state: State) -> None:
    state.draining = True
    for ticket in list(state.queue.values()):
        refuse(state, ticket, DRAINING)
    for instance in list(state.instances.values()):
        stop(state, instance, Cause.DRAIN)
