"""The second half of ``handle``: what follows from the state. All of lmxd's policy is here and in placement.

First in, first out: the head of the queue is served or everybody behind it waits. It is
served by an instance that already runs, or by free bytes, or by the end of idle
instances, longest idle first, if that really frees enough.
"""

from __future__ import annotations

from lmxd.core.decisions import CheckActivity, GrantLease, ReportProgress, StartInstance
from lmxd.core.placement import best_fit, shortfalls, victims, widest
from lmxd.core.record import DRAINING, end_lease, refuse, stop
from lmxd.core.state import Instance, Lease, State, Ticket
from lmxd.core.words import Cause, Demand, Phase, Refusal


def derive(state: State) -> None:
    """Bring everything that depends on the facts up to date."""
    _expire(state)
    _grant(state)
    _reap(state)
    while _turn_away(state, progressing=_serve(state)):
        pass  # who stood behind those is served in turn
    _report(state)


def next_deadline(state: State) -> float | None:
    """When ``derive`` will next have something to do, if nothing happens before."""
    times = [t.expires_at for t in state.queue.values() if t.expires_at is not None and t.patient]
    times += [lease.expires_at for lease in state.leases() if lease.expires_at is not None]
    return min(times, default=None)


def _expire(state: State) -> None:
    for ticket in list(state.queue.values()):
        if ticket.patient and ticket.expires_at is not None and ticket.expires_at <= state.now:
            refuse(state, ticket, _no_capacity(state, ticket, "wait_expired", "the request waited as long as it would"))
    for lease in list(state.leases()):
        if lease.expires_at is not None and lease.expires_at <= state.now:
            end_lease(state, lease, "ttl_expired")


def _grant(state: State) -> None:
    for instance in state.instances.values():
        if instance.phase is Phase.READY:
            for ticket in list(instance.tickets.values()):
                _grant_one(state, instance, ticket)


def _grant_one(state: State, instance: Instance, ticket: Ticket) -> None:
    state.drop_ticket(ticket.id)
    instance.leases[ticket.lease] = Lease(
        id=ticket.lease,
        instance=instance.id,
        owner=ticket.owner,
        hold=ticket.hold,
        slots=ticket.ask.slots,
        granted_at=state.now,
        ttl=ticket.ttl,
        expires_at=None if ticket.ttl is None else state.now + ticket.ttl,
    )
    instance.active_at = state.now
    state.outbox.append(
        GrantLease(
            ticket=ticket.id,
            lease=ticket.lease,
            instance=instance.id,
            owner=ticket.owner,
            waited=state.now - ticket.asked_at,
        )
    )


def _reap(state: State) -> None:
    """End what did nothing for its idle timeout, on fresh evidence only."""
    for instance in list(state.instances.values()):
        idle = state.now - instance.active_at
        if instance.phase is not Phase.READY or instance.ask.pin or idle < instance.ask.idle_timeout:
            continue
        if instance.known_idle(state.now):
            stop(state, instance, Cause.IDLE)


def _serve(state: State) -> bool:
    """Serve the queue in order. True if the head is held up only by instances on their way out."""
    while state.queue:
        head = next(iter(state.queue.values()))
        if state.draining:
            refuse(state, head, DRAINING)
        elif not any(state.ledger.could_ever_fit(d) for d in head.ask.options) and state.enforce:
            refuse(state, head, _never_fits(state, head))
        elif instance := _reusable(state, head):
            _attach(state, head, instance)
        elif (demand := _placed(state, head)) is not None:
            _attach(state, head, _start(state, head, demand))
        else:
            return _make_room(state, head)
    return False


def _reusable(state: State, head: Ticket) -> Instance | None:
    """A running instance that serves the head at no bytes: ready before starting, the snuggest first."""
    serving = [i for i in state.instances.values() if i.serves(head.ask)]
    return min(serving, key=lambda i: (i.phase is not Phase.READY, i.ask.context, i.free_slots), default=None)


def _placed(state: State, head: Ticket) -> Demand | None:
    return best_fit(state, head.ask.options) if state.enforce else widest(state, head.ask.options)


def _start(state: State, head: Ticket, demand: Demand) -> Instance:
    instance = Instance(
        id=state.new_instance_id(head.ask.profile),
        ask=head.ask,
        demand=demand,
        phase=Phase.STARTING,
        started_at=state.now,
        active_at=state.now,
    )
    state.instances[instance.id] = instance
    state.ledger.reserve(instance.id, demand)
    state.outbox.append(StartInstance(instance=instance.id, ask=head.ask, demand=demand))
    return instance


def _attach(state: State, ticket: Ticket, instance: Instance) -> None:
    del state.queue[ticket.id]
    instance.tickets[ticket.id] = ticket
    if instance.phase is Phase.READY:
        _grant_one(state, instance, ticket)


def _make_room(state: State, head: Ticket) -> bool:
    """Evict for the head, once every victim is known to be idle. False if eviction cannot help."""
    plan = victims(state, head.ask.options)
    if plan is None:
        return False
    unsure = [i for i in plan if not i.known_idle(state.now)]
    for instance in unsure:
        if not instance.checking:
            instance.checking = True
            state.outbox.append(CheckActivity(instance=instance.id))
    if not unsure:
        for instance in plan:
            stop(state, instance, Cause.UNWANTED if instance.phase is Phase.STARTING else Cause.EVICTED)
    return True


def _turn_away(state: State, *, progressing: bool) -> bool:
    """Refuse those who would not wait, then those for whom the queue has no place. True if anybody was."""
    before = len(state.queue)
    waiting = list(state.queue.values())[1 if progressing else 0 :]
    for ticket in waiting:
        if not ticket.patient:
            refuse(state, ticket, _no_capacity(state, ticket, "no_capacity", "there is no room now"))
    waiting = [t for t in waiting if t.id in state.queue]
    for ticket in waiting[state.queue_depth :]:
        refuse(state, ticket, _no_capacity(state, ticket, "queue_full", f"{state.queue_depth} requests wait already"))
    return len(state.queue) < before


def _no_capacity(state: State, ticket: Ticket, code: str, message: str) -> Refusal:
    remedy = "ask again later, or with --wait, or for a smaller context"
    return Refusal(code=code, message=message, remedy=remedy, shortfalls=shortfalls(state, ticket.ask.options))


def _never_fits(state: State, ticket: Ticket) -> Refusal:
    return Refusal(
        code="never_fits",
        message="the request exceeds what the device could ever give it",
        remedy="ask for a smaller context, a smaller model or cache type, or raise max_memory_gb",
        shortfalls=shortfalls(state, ticket.ask.options),
    )


def _report(state: State) -> None:
    """Tell each ticket where it stands, when its position or who holds the devices has changed."""
    holders = tuple(
        (a.device, a.unavailable, bool(a.foreign), tuple(a.reservations)) for a in state.ledger.accounts.values()
    )
    for position, ticket in enumerate(state.queue.values(), start=1):
        _tell(state, ticket, position, (position, holders), None)
    for instance in state.instances.values():
        for ticket in instance.tickets.values():
            _tell(state, ticket, 0, instance.id, instance)


def _tell(state: State, ticket: Ticket, position: int, standing: object, instance: Instance | None) -> None:
    """``standing``: what would have to be different for the ticket to be told again."""
    if ticket.told == standing:
        return
    ticket.told = standing
    short = shortfalls(state, ticket.ask.options) if position else ()
    state.outbox.append(
        ReportProgress(
            ticket=ticket.id,
            owner=ticket.owner,
            position=position,
            instance=instance.id if instance else None,
            shortfalls=short,
        )
    )
