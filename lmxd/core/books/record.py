"""The first half of ``handle``: change the state as one event says. Policy derives what follows from it.

An event about an unknown id is a late report, and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lmxd.core.answers import Refusal
from lmxd.core.books.administered import administered, drain_changed, residents_changed
from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.charges import charge_holders
from lmxd.core.books.endings import end_lease, refuse, release
from lmxd.core.books.moving import growth_told
from lmxd.core.books.parking import change_ask
from lmxd.core.books.pools import join_pools
from lmxd.core.books.queue import rank
from lmxd.core.books.queueing import enter_queue, ticket_of
from lmxd.core.books.restored import restored
from lmxd.core.books.sleeping import awake, never_again, settle, sleep_reported
from lmxd.core.books.state import State
from lmxd.core.books.step import Step
from lmxd.core.books.yields import begin_yield, end_yield
from lmxd.core.decisions import ForgetInstance
from lmxd.core.events import (
    ActivitySeen,
    AskChanged,
    ClientLeft,
    ContextSeen,
    ConversationCarried,
    ConversationSaved,
    Event,
    GrowthRequested,
    InstanceExited,
    InstanceReady,
    InstanceSlept,
    LeaseReleased,
    LeaseRenewed,
    LeaseRequested,
    LedgerRestored,
    LoadBegun,
    LoadPostponed,
    MemoryMeasured,
    SleepFailed,
    TicketCancelled,
    TimePassed,
)
from lmxd.core.final_refusals import ASKED_AGAIN, CANCELLED, CLIENT_LEFT
from lmxd.core.instances import Instance
from lmxd.core.orders import (
    DrainEnded,
    DrainRequested,
    KeepAliveChanged,
    PinChanged,
    PolicyChanged,
    ResidentsChanged,
    StopRequested,
    YieldEnded,
    YieldRequested,
)
from lmxd.core.reasons import EndReason, RefusalCode
from lmxd.core.words import Failure, Hold, Phase, Yielded
from lmxd.failures import FailureCode, remedy_of

_CALM: Final = (
    LeaseRequested, GrowthRequested, ConversationCarried, LeaseRenewed, MemoryMeasured, InstanceReady, ActivitySeen,
    LoadPostponed, LoadBegun, InstanceSlept,
)  # fmt: skip
"""Events that serve no waiting ticket by themselves. An ``InstanceReady``, for example, serves its own tickets."""


def record(state: State, event: Event) -> None:
    """Dispatch on the kind of event."""
    _begin(state, event)
    match event:
        case LeaseRequested():
            _lease_requested(state, event)
        case GrowthRequested() | ConversationCarried() | ConversationSaved() | ContextSeen():
            growth_told(state, event)
        case LeaseReleased():
            release(state, event.lease)
        case LeaseRenewed():
            _lease_renewed(state, event)
        case AskChanged():
            change_ask(state, event.ticket, event.ask)
        case TicketCancelled():
            _ticket_cancelled(state, event)
        case ClientLeft():
            _client_left(state, event)
        case InstanceReady():
            _instance_ready(state, event)
        case LoadPostponed() | LoadBegun():
            _load_postponed(state, event)
        case InstanceExited():
            _instance_exited(state, event)
        case InstanceSlept() | SleepFailed():
            sleep_reported(state, event)
        case ActivitySeen():
            _activity_seen(state, event)
        case StopRequested() | PinChanged() | KeepAliveChanged():
            administered(state, event)
        case DrainRequested() | DrainEnded():
            drain_changed(state, event)
        case MemoryMeasured():
            _memory_measured(state, event)
        case PolicyChanged():
            _policy_changed(state, event)
        case ResidentsChanged():
            residents_changed(state, event)
        case YieldRequested() | YieldEnded():
            _yields_changed(state, event)
        case LedgerRestored():
            restored(state, event)
        case TimePassed():
            pass
        case _:
            raise AssertionError(f"no such fact: {event!r}")


def _begin(state: State, event: Event) -> None:
    """Begin a step. Only the kind of the event is looked at here."""
    state.now = max(state.now, event.at)
    calm = isinstance(event, _CALM)
    state.step = Step(time_passed=isinstance(event, TimePassed), serve_again=not calm)


def _policy_changed(state: State, event: PolicyChanged) -> None:
    state.policy, state.step.refuse_again, state.step.policy_changed = event.policy, True, True
    state.failed.clear()
    state.residues.clear()
    state.ledger.accept()


def _lease_requested(state: State, event: LeaseRequested) -> None:
    state.counts["asked"] += 1
    if event.key is not None and (before := state.asked.get((event.owner.uid, event.key))):
        elsewhere = before.owner.connection != event.owner.connection
        refuse(state, before, ASKED_AGAIN if elsewhere else CANCELLED)
        state.step.serve_again = True
    if not event.ask.external:
        state.expectations.asked(event.ask.profile, state.now)
    if event.elsewhere is not None:
        state.shares.know(event.owner, event.elsewhere, state.now, state.policy)
    ticket = ticket_of(state, event)
    ticket.rank = rank(ticket, state.policy, state.shares.lateness(ticket.owner, state.policy))
    enter_queue(state, ticket)
    if event.key is not None and (event.owner.uid, event.key) in state.keys:
        refuse(state, ticket, CANCELLED)
    else:
        state.step.arrived = ticket


def _lease_renewed(state: State, event: LeaseRenewed) -> None:
    lease = state.lease(event.lease)
    if lease is None:
        return
    if lease.parked is None:
        state.instances[lease.instance].active_at = state.now
        state.step.touched.instances.add(lease.instance)
    if lease.hold is Hold.TTL:
        lease.ttl = event.ttl if event.ttl is not None else lease.ttl
        state.expire(lease, state.now + (lease.ttl or 0))
    elif event.connection is not None:
        lease.owner = replace(lease.owner, connection=event.connection)
        state.expire(lease, None)
    state.step.touched.leases.add(lease.id)


def _ticket_cancelled(state: State, event: TicketCancelled) -> None:
    ticket = state.ticket(event.ticket)
    if ticket is None:
        return
    matters = ticket in (state.queue.head, state.head) or ticket.room_being_made or ticket.instance is not None
    state.step.serve_again = matters or bool(state.swapping)
    refuse(state, ticket, CANCELLED)


def _client_left(state: State, event: ClientLeft) -> None:
    for ticket in [t for t in state.tickets.values() if t.owner.connection == event.connection]:
        refuse(state, ticket, CLIENT_LEFT)
    held = [x for x in state.leases.values() if x.hold is Hold.CONNECTION]
    for lease in [x for x in held if x.owner.connection == event.connection]:
        end_lease(state, lease, EndReason.CONNECTION_CLOSED)


def _memory_measured(state: State, event: MemoryMeasured) -> None:
    measured = state.ledger.measure(event.readings, event.begun)
    for freed in measured.gone:
        gone = state.instances[freed]
        if gone.stopped_at is not None and not gone.ask.external:
            state.expectations.gone(gone.ask.profile, state.now - gone.stopped_at)
        state.step.gone.append(gone)
        state.forget(freed)
        state.step.decisions.append(ForgetInstance(instance=freed))
    touched = measured.touched | join_pools(state, measured.touched)
    charge_holders(state, touched)
    state.reach.touch(touched)
    state.step.serve_again, state.step.refuse_again = measured.moved, measured.resized
    settle(state, event.begun)


def _yields_changed(state: State, event: YieldRequested | YieldEnded) -> None:
    if isinstance(event, YieldRequested):
        account = state.ledger.accounts[event.device]
        until = state.now + event.lasts
        begin_yield(state, account, event.id, Yielded(size=event.size, foreign_before=account.foreign, until=until))
    else:
        end_yield(state, event.id)


def _instance_ready(state: State, event: InstanceReady) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or not instance.comes_up:
        return
    if instance.phase is Phase.WAKING:
        awake(state, instance, event.loading)
    elif not instance.ask.external:
        loading = state.now - instance.started_at if event.loading is None else event.loading
        state.expectations.launched(instance.ask.profile, loading, instance.option.size, instance.ask.begun)
    instance.phase = Phase.READY
    instance.ready_at = instance.active_at = instance.used_at = state.now
    state.step.touched.instances.add(instance.id)
    state.failed.pop(instance.ask.launch, None)
    state.step.ready.append(instance)
    state.step.serve_again = instance.vacant
    state.loaded(instance)


def _load_postponed(state: State, event: LoadPostponed | LoadBegun) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is not Phase.STARTING:
        return
    instance.postponed = isinstance(event, LoadPostponed)
    instance.load_at = None if instance.postponed else state.now
    state.step.load_moved = instance
    state.reach.touch(instance.demand)


def _instance_exited(state: State, event: InstanceExited) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is Phase.RECLAIMING:
        return
    failure = event.failure or Failure(code=FailureCode.EXITED, message="the instance ended")
    if instance.phase is Phase.STARTING and event.failure is not None:
        _note_failure(state, instance, failure)
    if instance.phase in (Phase.DOZING, Phase.WAKING):
        never_again(state, instance)
    for lease in list(instance.leases.values()):
        end_lease(state, lease, EndReason.INSTANCE_EXITED, failure.message)
    for ticket in list(instance.tickets.values()):
        code, remedy = RefusalCode.LAUNCH_FAILED, remedy_of(failure.code)
        refuse(state, ticket, Refusal(code=code, message=failure.message, remedy=remedy, failure=failure))
    instance.phase = Phase.RECLAIMING
    state.retire(instance)
    state.ledger.mark_exited(instance.id, state.now)
    state.reach.touch(instance.demand)


def _note_failure(state: State, instance: Instance, failure: Failure) -> None:
    """Note a failed launch, so that it is not repeated in a loop."""
    until = state.failed.note(instance.ask.launch, failure, state.now).until
    state.step.refuse_again = True
    if instance.ask.kind in state.residents:
        state.alarms.set((AlarmKind.RESIDENT, instance.ask.profile), until)


def _activity_seen(state: State, event: ActivitySeen) -> None:
    instance = state.instances.get(event.instance)
    if instance is None or instance.phase is not Phase.READY:
        return
    busy = instance.works(state.now, busy=event.busy, guessed=event.guessed)
    state.step.serve_again = instance.checking or instance.busy != busy
    instance.checking, instance.busy, instance.checked_at = False, busy, state.now
    state.reach.touch(instance.demand)
    if not busy:
        state.linger(instance, on=False)
        instance.rested = instance.vacant
    elif instance.vacant and not instance.is_anybodys:
        state.linger(instance, on=True)
    if busy or event.worked:
        instance.worked(state.now)
        state.step.touched.instances.add(instance.id)
    state.step.seen = instance
