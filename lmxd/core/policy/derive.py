"""The second half of ``handle``: derive decisions from the changed books, step by step.

In: the state, and the step of this event. Out: decisions in ``state.step``. The rule: work only as much as the event
may change. A new request is served or queued by itself. The whole queue is served again only after an event that may
free bytes or slots. Ranks, dates and reports are brought up to date once a second, while requests wait.
"""

from __future__ import annotations

from math import inf

from lmxd.core.answers import Refusal
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.endings import end_lease, refuse, stop
from lmxd.core.books.parking import place_anew
from lmxd.core.books.queue import rank
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.sleeping import overslept
from lmxd.core.books.state import State
from lmxd.core.books.yields import end_yield
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy import refusals
from lmxd.core.policy.depth import no_place, shorten
from lmxd.core.policy.eviction import kept
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.growing import move_carried
from lmxd.core.policy.measuring import disturbs
from lmxd.core.policy.preemption import ask_for_room
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.policy.reports import PERIOD, eta, report, report_newcomer, report_start
from lmxd.core.policy.residents import start_missing
from lmxd.core.policy.room import make_room
from lmxd.core.policy.serving import Scheduler, refused
from lmxd.core.policy.sharing import share
from lmxd.core.policy.shrinking import resume, shrink_the_idle
from lmxd.core.policy.standstill import end_standstill
from lmxd.core.policy.starts import grant
from lmxd.core.policy.strays import end_beyond_quota, end_overstaying, is_looked_into, look_into_lingering
from lmxd.core.policy.swaps import cancel_stale, reopen_the_unused
from lmxd.core.policy.unloading import unload
from lmxd.core.reasons import EndReason
from lmxd.core.words import Cause, Hold, InstanceId, LeaseId, Phase, TicketId, YieldId


def derive(state: State, scheduler: Scheduler) -> None:
    """Bring all that depends on the facts up to date."""
    ticked = state.step.time_passed and state.tick_at is not None and state.tick_at <= state.now
    _expire(state)
    resume(state)
    _grant(state)
    _move_on(state)
    _reap(state)
    shrink_the_idle(state)
    unload(state)
    reopen_the_unused(state)
    look_into_lingering(state)
    end_beyond_quota(state)
    if state.draining:
        _drain(state)
    if ticked or state.step.policy_changed:
        _rank_anew(state)
    new = state.step.arrived
    if new is not None and new.id not in state.tickets:
        new = None  # the least of waits is over at once
    if new is not None and not refused(state, new) and not _refused_late(state, new):
        if new.moves is not None:
            end_standstill(state)
        share(state, (new.ask.kind,))  # a slot serves most new requests
    if ticked:
        end_standstill(state)
    if state.step.serve_again or ticked or (new is not None and new is state.queue.head):
        head = scheduler.serve(state)
        while _turn_away(state):
            head = scheduler.serve(state)  # tickets behind the refused ones may be served
        before = _taken(state)
        share(state, ask_for_room(state, head))
        if state.step.closed_kinds & state.queue.kinds or _taken(state) < before:
            scheduler.serve(state)  # tickets that waited for a slot there, or for a quota
        start_missing(state)
        end_overstaying(state)
    elif new is not None and new in state.queue:
        scheduler.serve_newcomer(state, new)
        if _turn_away(state):
            share(state, (new.ask.kind,))  # the instance that was started for it
    while _move_on(state):
        scheduler.serve(state)
    while opened := cancel_stale(state):  # their tickets were served otherwise
        share(state, opened)
    _report(state, ticked)
    _schedule(state, ticked)


def _move_on(state: State) -> bool:
    """Move leases whose conversations were carried, and have parked ones wait anew. Returns whether to serve again."""
    moved = move_carried(state)
    return place_anew(state) or moved


def _taken(state: State) -> int:
    """The number of tickets and leases that count for quotas. A grant does not change it."""
    return len(state.leases) + len(state.tickets)


def next_deadline(state: State) -> float | None:
    """The time at which ``derive`` has something to do if no event comes before; None if never."""
    times = (state.alarms.next(), state.tick_at)
    return min((at for at in times if at is not None), default=None)


def _expire(state: State) -> None:
    """Act on each time that is over: a wait, a deadline, a lease, a yield."""
    for kind, name in state.alarms.due(state.now):
        state.step.serve_again = True
        match kind:
            case AlarmKind.WAIT:
                ticket = state.tickets[TicketId(name)]
                if ticket.instance is None:  # the time of loading does not count
                    refuse(state, ticket, refusals.wait_expired(state, ticket))
            case AlarmKind.DEADLINE:
                ticket = state.tickets[TicketId(name)]
                refuse(state, ticket, refusals.late(state, ticket, eta(state, ticket)))
            case AlarmKind.LEASE:
                lease = state.leases[LeaseId(name)]
                late = lease.hold is Hold.TTL
                end_lease(state, lease, EndReason.TTL_EXPIRED if late else EndReason.CONNECTION_CLOSED)
            case AlarmKind.CARRY:
                state.step.carried.append((state.tickets[TicketId(name)], ()))
            case AlarmKind.YIELD:
                end_yield(state, YieldId(name))
            case AlarmKind.SLEEP:
                _overslept(state, state.instances[InstanceId(name)])
            case _:
                pass  # the queue is served again, and no more


def _overslept(state: State, instance: Instance) -> None:
    """The time is over for an instance that falls asleep, or is asleep: it ends, once that disturbs nobody."""
    if instance.phase is Phase.ASLEEP and disturbs(state, instance):
        state.alarms.set((AlarmKind.SLEEP, instance.id), state.now + PERIOD)
    else:
        overslept(state, instance)


def _grant(state: State) -> None:
    """Grant leases to the tickets of instances that have become ready."""
    for instance in state.step.ready:
        for ticket in list(instance.tickets.values()):
            grant(state, instance, ticket)


def _reap(state: State) -> None:
    """End instances that were idle for their ``idle_timeout``, on fresh evidence only, and holds without a lease."""
    for hold in list(state.released_holds.values()):
        stop(state, hold, Cause.RELEASED, "its hold was released")
    instance = state.step.seen
    if instance is None or instance.phase is not Phase.READY or instance.ask.pin or instance.ask.external:
        return
    idle = state.now - instance.active_at
    awaited = bool(instance.tickets) or any(x.growing is not None for x in instance.leases.values())
    stays = awaited or kept(state, instance) or disturbs(state, instance)
    if idle >= instance.ask.idle_timeout and instance.known_idle(state.now) and not stays:
        stop(state, instance, Cause.IDLE, f"no request for {idle:.0f} s")
        state.step.serve_again = True  # the leases that end count for quotas no more


def _drain(state: State) -> None:
    """End instances without leases, each as soon as it is known to be idle."""
    for instance in (*state.vacant.values(), *state.asleep.values()):
        make_room(state, (instance,), Cause.DRAIN, "lmxd is draining")


def _rank_anew(state: State) -> None:
    """Rank the tickets of users again whose recent use has changed; of all, by rules that have changed."""
    state.shares.settle(state.now, state.policy)
    others = state.step.policy_changed
    if (others or len(state.shares.by_user) > 1) and (moved := state.shares.moved(state.policy, all=others)):
        state.queue.rank_anew(
            (ticket, rank(ticket, state.policy, late))
            for user, late in moved.items()
            for ticket in state.queue.by(user)
        )


def _turn_away(state: State) -> bool:
    """Refuse tickets that would not wait, would be too late, or find the queue full. Returns whether any was."""
    before = len(state.tickets)
    for ticket in list(state.impatient.values()):
        if ticket.instance is None and not ticket.room_being_made and not is_looked_into(state, ticket):
            quota = over_quota(state, ticket)
            refuse(state, ticket, refusals.beyond_quota(quota) if quota else refusals.no_capacity(state, ticket))
    new = state.step.arrived
    if new is None:
        if state.step.policy_changed and len(state.queue) > state.policy.queue_depth:
            shorten(state)
    elif new.id in state.tickets and (refusal := no_place(state, new) or _too_late(state, new)):
        refuse(state, new, refusal)
    return len(state.tickets) < before


def _refused_late(state: State, new: Ticket) -> bool:
    """Refuse a ticket whose model takes longer to load than its deadline allows. Nothing is started or ended for it."""
    if new.deadline_at is None or state.able(new.ask):
        return False
    load = load_seconds(state, new.ask)
    if state.now + load <= new.deadline_at:
        return False
    refuse(state, new, refusals.late(state, new, load))
    return True


def _too_late(state: State, ticket: Ticket) -> Refusal | None:
    """The refusal of a ticket that is expected to be served after its deadline; None if it is in time."""
    if ticket.deadline_at is None:
        return None
    if state.now + load_seconds(state, ticket.ask) > ticket.deadline_at and ticket.instance is None:
        slot_at = Forecast(state).slot(ticket.ask).at
        expected = None if slot_at == inf else slot_at - state.now
    else:
        expected = eta(state, ticket)
    if expected is not None and state.now + expected <= ticket.deadline_at:
        return None
    return refusals.late(state, ticket, expected)


def _report(state: State, ticked: bool) -> None:
    if state.step.load_moved is not None:
        report_start(state, state.step.load_moved)
    if ticked:
        report(state)
    elif state.step.arrived is not None and state.step.arrived in state.queue:
        report_newcomer(state, state.step.arrived)


def _schedule(state: State, ticked: bool) -> None:
    """Set the next tick in a second, while tickets wait, holders should yield, a device is short or a drain goes on."""
    if not (len(state.queue) or state.yielding or state.overcommitted_since or (state.draining and state.vacant)):
        state.tick_at = None
    elif ticked or state.tick_at is None:
        state.tick_at = state.now + PERIOD
