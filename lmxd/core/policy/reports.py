"""Reports: tell waiting clients their position, their expected time, and the instances that they wait for.

In: the queue and the forecast. Out: ``ReportProgress``. The rule: report at once to a new request, then at most once a
second, and only if something changed.
"""

from __future__ import annotations

from typing import Final

from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.decisions import ReportProgress
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.dates import Date
from lmxd.core.policy.forecast import SURE_OF, Dated, Forecast, dated, dated_far, pace, starting
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.placement import shortfalls, useful_shortfalls
from lmxd.core.policy.turns import turns
from lmxd.core.words import Ask, InstanceId

PERIOD: Final = 1.0
"""Seconds between two reports to the same client, at least: a queue that moves fast shall not flood it."""
_SLICE: Final = 64
"""The number of tickets far behind that are looked at each second: 1,000 waiting clients hear every 16 s."""
_NEWS: Final = 0.2
"""The part of an expected time by which it must change to be reported: 10 s to more than 12, or less than 8."""


def report_newcomer(state: State, ticket: Ticket) -> None:
    """Report at once to a new request; without a time if it stands far behind, until the next report."""
    position = state.queue.position(ticket)
    if position <= SURE_OF:
        _tell(state, position, dated(state, position)[-1])
    else:
        _tell_far(state, position, ticket, None)


def report(state: State) -> None:
    """Report to tickets in front, and to a slice of the others, whose position, blockers or time have changed."""
    front = dated(state)
    for position, each in enumerate(front, start=1):
        _tell(state, position, each)
    between, start = pace(front), max(state.told_to, len(front))
    others = state.queue.some(start, _SLICE)
    for position, ticket in enumerate(others, start=start + 1):
        _tell_far(state, position, ticket, between)
    state.told_to = start + len(others) if len(others) == _SLICE else 0


def report_start(state: State, instance: Instance) -> None:
    """Report to the clients of a starting instance that its load was postponed, or has begun after that."""
    for ticket in instance.tickets.values():
        expected = starting(state, ticket)
        told = ReportProgress(ticket=ticket.id, owner=ticket.owner, position=0, eta=expected, instance=instance.id)
        state.step.decisions.append(told)


def eta(state: State, ticket: Ticket) -> float | None:
    """Seconds until the lease of a ticket is expected; None if unknown."""
    if ticket.instance is not None:
        return starting(state, ticket)
    position = state.queue.position(ticket)
    forecast = Forecast(state)
    front = dated(state, min(position, SURE_OF), forecast)
    if position <= len(front):
        return front[-1].eta
    return dated_far(state, forecast, ticket, position, pace(front)).eta


def _tell(state: State, position: int, each: Dated) -> None:
    ticket, date = each.ticket, each.date
    waits_for = blockers(state, ticket, date)
    if not _is_told(state, ticket, (position, waits_for), each.eta):
        return
    state.step.decisions.append(
        ReportProgress(
            ticket=ticket.id,
            owner=ticket.owner,
            position=position,
            eta=each.eta,
            waits_for=waits_for,
            shortfalls=useful_shortfalls(state, ticket),
            turns=turns(state, ticket, date),
        )
    )


def _tell_far(state: State, position: int, ticket: Ticket, between: float | None) -> None:
    """Report to a ticket far behind: its position, and a time by the pace of the queue (``between`` two leases).

    The instances that have its bytes now will be others by its turn, so that they are not named. If it waits for a slot
    of a running instance, that is named, but no time: the tickets before it may not concern it.
    """
    waits_for = serving(state, ticket.ask)
    eta = None if between is None or waits_for else between * position
    if _is_told(state, ticket, (position, waits_for), eta):
        told = ReportProgress(ticket=ticket.id, owner=ticket.owner, position=position, eta=eta, waits_for=waits_for)
        state.step.decisions.append(told)


def serving(state: State, ask: Ask) -> tuple[InstanceId, ...]:
    """The running instances that could serve ``ask`` if they had a free slot."""
    return tuple(i.id for i in state.able(ask))


def _is_told(state: State, ticket: Ticket, standing: object, eta: float | None) -> bool:
    """Whether a ticket's place has changed since its last report. It counts as reported now."""
    due = None if eta is None else state.now + eta
    if ticket.told is not None and ticket.told[0] == standing and not _is_news(state, ticket.told[1], due):
        return False
    ticket.told = standing, due
    return True


def _is_news(state: State, old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > max(PERIOD, _NEWS * abs(old - state.now))


def blockers(state: State, ticket: Ticket, date: Date) -> tuple[str, ...]:
    """The quota that a ticket exceeds; or the instances that it waits for; or the holders of the bytes it lacks.

    Where no more instances may run, bytes would not help: it waits for those that do, even if none can say how long.
    """
    if quota := over_quota(state, ticket):
        return (quota,)
    if date.awaits:
        return date.awaits
    if has_all_instances(state, ticket):
        return serving(state, ticket.ask)
    return tuple(dict.fromkeys(h.name for s in shortfalls(state, ticket.ask) for h in s.holders))
