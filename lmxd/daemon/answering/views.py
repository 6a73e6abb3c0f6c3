"""The core's state as messages, for ps, queue, devices and status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from lmxd.core.answers import Refusal, Shortfall, Turn
from lmxd.core.books.state import State
from lmxd.core.decisions import ReportProgress
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.moves import Parked
from lmxd.core.policy import placement
from lmxd.core.policy.dates import NEVER, Date
from lmxd.core.policy.forecast import Forecast, dated, dated_far, pace, starting
from lmxd.core.policy.quantum import serves_until
from lmxd.core.policy.reports import blockers
from lmxd.core.policy.turns import turns as expected_turns
from lmxd.core.words import Phase
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.device_views import by_device, charged, promised
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.present import Present
from lmxd.engines.engine import shown_engine
from lmxd.rpc import framing
from lmxd.rpc.books import InstanceInfo, LeaseInfo, MovingInfo, TicketInfo, UserInfo
from lmxd.rpc.notifications import Progress
from lmxd.rpc.peer import Peer
from lmxd.rpc.shortfalls import HolderInfo, ShortfallInfo, SwapInfo, TurnInfo


def instances(state: State, present: Present, performer: Performer, access: Access, peer: Peer) -> list[InstanceInfo]:
    """All instances. Pid, endpoint and the holders of leases are shown only to peers that may see them."""
    return [_instance(state, present, performer, access, peer, i) for i in state.instances.values()]


def _instance(
    state: State, present: Present, performer: Performer, access: Access, peer: Peer, i: Instance
) -> InstanceInfo:
    launched = performer.launched(i.id)
    leases = [_lease(state.now, access, peer, x) for x in i.leases.values()]
    mine = access.is_admin(peer) or any(x.lease for x in leases)
    endpoint = launched.endpoint if mine and launched else None
    return InstanceInfo(
        instance=i.id,
        model=i.ask.profile,
        name=i.ask.name or None,
        engine=shown_engine(launched.plan.engine) if launched else None,
        phase=i.phase.value,
        pid=performer.pid(i.id) if mine else None,
        endpoint=endpoint.url if endpoint else None,
        socket=str(endpoint.socket) if endpoint and endpoint.socket else None,
        ctx=i.ask.context,
        ctx_most=present.most_context(i.ask),
        unified=i.ask.unified,
        slots=i.ask.spread,
        vacant=max(0, i.free_slots) if i.accepts and (i.vacant or i.shared) else 0,
        busy=i.busy,
        processing=launched.pace.processing if launched else 0,
        speed=launched.pace.speed if launched else 0.0,
        loaded=loaded(state, i),
        idle=state.now - i.active_at,
        idle_timeout=None if i.ask.pin or i.ask.external else i.stays,
        yield_in=None if i.yielding is None else i.yielding.by - state.now,
        swap=swap(state, i),
        age=state.now - i.started_at,
        promised=promised(state, i),
        measured=by_device(i, state.ledger.measured(i.id)),
        charged=charged(state, i),
        leases=leases,
    )


def moving(state: State, access: Access, peer: Peer) -> list[MovingInfo]:
    """The parked leases, of others without their holders."""
    return [_moving(state, x, x.parked, _lease(state.now, access, peer, x)) for x in state.leases.values() if x.parked]


def _moving(state: State, lease: Lease, parked: Parked, shown: LeaseInfo) -> MovingInfo:
    ticket = None if lease.growing is None else state.ticket(lease.growing)
    return MovingInfo(
        **shown.model_dump(),
        model=parked.ask.profile,
        before=lease.instance,
        ctx=parked.back.tokens(parked.back.slots),
        ctx_wanted=parked.ask.tokens(parked.ask.slots),
        instance=None if ticket is None else ticket.instance,
    )


def loaded(state: State, i: Instance) -> float | None:
    """The part of its promised bytes that a starting instance has taken; None where that cannot be measured."""
    if i.phase is not Phase.STARTING:
        return None
    taken, promised = state.ledger.measured(i.id), i.option.devices
    parts = [min(taken[device], size) for device, size in promised.items() if taken.get(device)]
    return sum(parts) / sum(promised.values()) if parts else None


def _lease(now: float, access: Access, peer: Peer, x: Lease) -> LeaseInfo:
    if not access.sees(peer, x.owner.uid):
        return LeaseInfo(bytes=x.size, slots=x.slots)
    return LeaseInfo(
        bytes=x.size,
        lease=x.id,
        uid=x.owner.uid,
        pid=x.owner.pid,
        user=x.owner.user or None,
        hold=x.hold.value,
        slots=x.slots,
        age=now - x.granted_at,
        expires_in=None if x.expires_at is None else x.expires_at - now,
    )


def users(state: State, access: Access, peer: Peer) -> list[UserInfo]:
    """The users that a peer may see, with the most use first."""
    now, half_life = state.now, state.policy.half_life
    found = [
        UserInfo(uid=uid, user=key or None, use=x.by(now, half_life), bytes=x.bytes, leases=x.leases, waiting=x.waiting)
        for (uid, key), x in state.shares.by_user.items()
        if access.sees(peer, uid)
    ]
    return sorted(found, key=lambda user: -user.use)


_Place: TypeAlias = tuple[Ticket, int, float | None, Date]
"""A ticket, its position, its expected time, and its date."""


def queue(state: State, access: Access, peer: Peer) -> list[TicketInfo]:
    """The tickets of starting instances, then those in the queue, in order."""
    found: list[_Place] = [
        (t, 0, starting(state, t), NEVER) for i in state.instances.values() for t in i.tickets.values()
    ]
    forecast = Forecast(state)
    front = dated(state, forecast=forecast)
    between = pace(front)
    found += [(each.ticket, n, each.eta, each.date) for n, each in enumerate(front, start=1)]
    for position, ticket in enumerate(list(state.queue)[len(front) :], start=len(front) + 1):
        each = dated_far(state, forecast, ticket, position, between)
        found.append((ticket, position, each.eta, each.date))
    return [_ticket(state, access, peer, *each) for each in found]


def served_in(state: State) -> float | None:
    """Seconds until all who wait now are expected to be served; None where nothing can be said.

    It follows from the first few alone, at their pace: it is asked for often, however many wait.
    """
    if not len(state.queue):
        return 0.0
    front = dated(state)
    between = pace(front)
    return None if between is None else between * max(len(state.queue), len(front))


def _ticket(
    state: State, access: Access, peer: Peer, t: Ticket, position: int, eta: float | None, date: Date
) -> TicketInfo:
    waited = state.now - t.asked_at
    if not access.sees(peer, t.owner.uid):
        return TicketInfo(position=position, waited=waited, eta=eta, bytes=t.ask.need)
    return TicketInfo(
        ticket=t.id,
        model=t.ask.profile,
        name=t.ask.name or None,
        uid=t.owner.uid,
        pid=t.owner.pid,
        user=t.owner.user or None,
        bytes=t.ask.need,
        slots=t.ask.slots,
        position=position,
        priority=t.ask.priority,
        waited=waited,
        eta=eta,
        waits_for=list(blockers(state, t, date)) if position else [],
        instance=t.instance,
        shortfalls=shortfalls(placement.useful_shortfalls(state, t)) if position else [],
        alternatives=any(len(option.devices) == 1 for option in t.ask.options),
        turns=turns(expected_turns(state, t, date)),
    )


def progress(decision: ReportProgress, request: framing.Id) -> Progress:
    return Progress(
        request=request,
        ticket=decision.ticket,
        position=decision.position,
        state="queued" if decision.position else "starting",
        eta=decision.eta,
        waits_for=list(decision.waits_for),
        instance=decision.instance,
        shortfalls=shortfalls(decision.shortfalls),
        turns=turns(decision.turns),
    )


def loading(state: State, ticket: Ticket, request: framing.Id, part: float) -> Progress:
    return Progress(
        request=request,
        ticket=ticket.id,
        position=0,
        state="starting",
        eta=starting(state, ticket),
        instance=ticket.instance,
        loaded=part,
    )


def refusal(refusal: Refusal) -> dict[str, object]:
    """The figures of a refusal, for ``data`` of the error."""
    data: dict[str, object] = {}
    if refusal.shortfalls:
        data["shortfalls"] = [s.model_dump(mode="json") for s in shortfalls(refusal.shortfalls)]
    if refusal.turns:
        data["turns"] = [t.model_dump(mode="json") for t in turns(refusal.turns)]
    if refusal.would_help:
        data["would_help"] = list(refusal.would_help)
    if refusal.retry_in is not None:
        data["retry_in"] = refusal.retry_in
    if refusal.failure is not None:
        data["failure"] = {
            "code": refusal.failure.code,
            "message": refusal.failure.message,
            "log": list(refusal.failure.log),
        }
    return data


def shortfalls(found: Iterable[Shortfall]) -> list[ShortfallInfo]:
    return [
        ShortfallInfo(
            device=s.device,
            need=s.need,
            have=s.have,
            ceiling=s.ceiling,
            capacity=s.capacity,
            holders=[
                HolderInfo(name=h.name, bytes=h.bytes, phase=h.phase, leases=h.leases, since=h.since) for h in s.holders
            ],
            unavailable=s.unavailable,
            views=list(s.views),
            remedy=s.remedy,
            called=dict(s.called),
        )
        for s in found
    ]


def swap(state: State, i: Instance) -> SwapInfo | None:
    """The swap of an instance, if it is to make way for a request."""
    if i.swap is None:
        return None
    ticket = state.waiting(i.swap.ticket)
    closes_in = 0.0 if ticket is None else max(0.0, serves_until(state, i, ticket) - state.now)
    return SwapInfo(model=i.swap.profile, closes_in=closes_in, price=i.swap.price, unused=i.unused(state.now))


def turns(found: Iterable[Turn]) -> list[TurnInfo]:
    return [
        TurnInfo(instance=t.instance, closes_in=t.closes_in, price=t.price, unused=t.unused, fair=t.fair) for t in found
    ]
