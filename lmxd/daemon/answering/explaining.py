"""Explaining: the answer that a request would get now, and the history of requests, leases and instances."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import Final

from lmxd.core.admission import Admission
from lmxd.core.books.state import State
from lmxd.core.decisions import (
    CheckActivity,
    Decision,
    GrantLease,
    RefuseLease,
    ReportProgress,
    SleepInstance,
    StartInstance,
    StopInstance,
    WakeInstance,
)
from lmxd.core.events import ActivitySeen, LeaseRequested
from lmxd.core.policy.forecast import SURE_OF, dated
from lmxd.core.policy.refusals import no_room, taken
from lmxd.core.policy.reports import blockers
from lmxd.core.policy.turns import turns
from lmxd.core.words import NO_CONNECTION, Ask, DeviceId, Hold, LeaseId, TicketId
from lmxd.daemon.answering import views
from lmxd.daemon.answering.access import Access, owner_of
from lmxd.daemon.answering.journal import Journal
from lmxd.daemon.answering.redaction import redacted
from lmxd.errors import LmxdError
from lmxd.rpc.explanations import Explained, HistoryStep, Planned
from lmxd.rpc.peer import Peer
from lmxd.text import sentence_among

_TRIAL: Final = TicketId("plan")
_FURTHEST = 64
"""The last position whose date is forecast for a plan: each position takes longer than the one before."""


def plan(admission: Admission, ask: Ask, peer: Peer, deadline: float | None) -> Planned:
    """The answer that a request would get. A copy of the core decides on it, with the same state and policy."""
    trial = copy.deepcopy(admission)
    asked = LeaseRequested(
        at=time.monotonic(),
        ticket=_TRIAL,
        lease=LeaseId(_TRIAL),
        owner=owner_of(peer, NO_CONNECTION),
        ask=ask,
        hold=Hold.EXPLICIT,
        deadline=deadline,
    )
    decided = trial.handle(asked).decisions
    for instance in [c.instance for c in decided if isinstance(c, CheckActivity)]:
        busy = trial.state.instances[instance].busy
        decided += trial.handle(ActivitySeen(at=time.monotonic(), instance=instance, busy=busy, worked=busy)).decisions
    found = _outcome(ask.profile, decided)
    found = found.model_copy(update={"called": {d: trial.state.ledger.called[DeviceId(d)] for d in found.devices}})
    return _dated(trial.state, found) if found.outcome == "queue" else found


def _dated(state: State, found: Planned) -> Planned:
    """The same plan with a date, at positions for which waiting clients get none."""
    ticket, position = state.waiting(_TRIAL), found.position or 0
    if ticket is None or not SURE_OF < position <= _FURTHEST:
        return found
    each = dated(state, position)[-1]
    expected, waits_for = turns(state, ticket, each.date), list(blockers(state, ticket, each.date))
    why = no_room(()) if expected else found.why
    return found.model_copy(
        update={"why": why, "eta": each.eta, "waits_for": waits_for, "turns": views.turns(expected)}
    )


def _outcome(model: str, decided: list[Decision]) -> Planned:
    mine = [decision for decision in decided if getattr(decision, "ticket", None) == _TRIAL]
    for decision in mine:
        if isinstance(decision, RefuseLease):
            return _refused(model, decision)
        if isinstance(decision, GrantLease):
            return Planned(outcome="share", model=model, why=decision.why, instance=decision.instance, eta=0.0)
    told = [decision for decision in mine if isinstance(decision, ReportProgress)][-1]
    if told.position == 0:
        return _started(model, told, decided)
    sleeps = [s.instance for s in decided if isinstance(s, SleepInstance)]
    evicts = [s.instance for s in decided if isinstance(s, StopInstance)]
    ways = (evicts, "evicted"), (sleeps, "put to sleep")
    makes_way = [f"{', '.join(names)} would be {what}" for names, what in ways if names]
    return Planned(
        outcome="evict" if makes_way else "queue",
        model=model,
        why=f"{' and '.join(makes_way)} for it" if makes_way else _why(told),
        evicts=evicts,
        sleeps=sleeps,
        position=told.position,
        eta=told.eta,
        waits_for=list(told.waits_for),
        shortfalls=views.shortfalls(told.shortfalls),
        turns=views.turns(told.turns),
    )


def _why(told: ReportProgress) -> str:
    if told.shortfalls or told.turns or not told.waits_for:
        return no_room(told.shortfalls)
    return sentence_among(told.waits_for) or taken(told.waits_for)


def _started(model: str, told: ReportProgress, decided: Iterable[Decision]) -> Planned:
    starts = [s for s in decided if isinstance(s, StartInstance) and s.instance == told.instance]
    if not starts:
        woken = any(isinstance(s, WakeInstance) and s.instance == told.instance for s in decided)
        why = f"{told.instance} {'sleeps, and is woken for it' if woken else 'is starting, and has a slot for it'}"
        return Planned(outcome="share", model=model, why=why, instance=told.instance, eta=told.eta)
    option = starts[0].option
    return Planned(
        outcome="start",
        model=model,
        why=starts[0].why.partition(": ")[2],
        devices=dict(option.devices),
        split=list(option.split),
        gpu_layers=option.gpu_layers,
        eta=told.eta,
    )


def _refused(model: str, decision: RefuseLease) -> Planned:
    refusal = decision.refusal
    return Planned(
        outcome="refuse",
        model=model,
        why=refusal.message,
        code=refusal.code,
        remedy=refusal.remedy,
        eta=refusal.retry_in,
        shortfalls=views.shortfalls(refusal.shortfalls),
        turns=views.turns(refusal.turns),
    )


def explain(journal: Journal, access: Access, peer: Peer, subject: str) -> Explained:
    """The history of ``subject``. LmxdError if it is unknown, or belongs to another user."""
    history = journal.get(subject)
    if history is None:
        raise LmxdError(
            "unknown_id",
            f"nothing is known of {subject} since lmxd was started",
            "name a request (lmxctl queue), a lease or an instance (lmxctl ps), not a model",
        )
    access.require_owner(peer, history.owners, subject)

    def sees(name: str) -> bool:
        found = journal.get(name)
        return access.is_admin(peer) or (found is not None and peer.uid in found.owners)

    mine = [entry for entry in history.entries if entry.uid is None or access.sees(peer, entry.uid)]
    steps = [HistoryStep(at=entry.at, event=entry.event, text=redacted(entry.text, sees)) for entry in mine]
    related = {name for entry in mine for name in entry.about if sees(name)} - {subject}
    return Explained(id=subject, steps=steps, related=[name for name in history.related if name in related])
