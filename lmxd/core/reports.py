"""Telling those who wait where they stand: position, expected time, and whom they wait for."""

from __future__ import annotations

from typing import Final

from lmxd.core.decisions import ReportProgress
from lmxd.core.forecast import SURE_OF, Date, Forecast, dates, starting, turns
from lmxd.core.instances import Ticket
from lmxd.core.placement import shortfalls
from lmxd.core.state import State

PERIOD: Final = 1.0
"""Seconds between two reports to the same ticket, at least: a queue that moves fast is no reason for a flood."""
_NEAR: Final = 8
"""Positions for which a date is worked out as they come."""
_NEWS: Final = 0.2
"""The part of an expected time by which it must have changed to be told again."""


def report_newcomer(state: State, ticket: Ticket) -> None:
    """At once; without a date for one that stands far behind, until the next report."""
    position = state.queue.position(ticket)
    _tell(state, ticket, position, eta(state, ticket) if position <= _NEAR else None, Forecast(state))


def report(state: State) -> None:
    """Tell each ticket, if its position, its blockers, or its date has changed."""
    waiting, forecast = list(state.queue), Forecast(state)
    for position, (ticket, eta) in enumerate(zip(waiting, dates(state, waiting), strict=True), start=1):
        _tell(state, ticket, position, eta, forecast)


def eta(state: State, ticket: Ticket) -> float | None:
    """Seconds until a ticket's lease is expected; None where nothing can be said."""
    if ticket.instance is not None:
        return starting(state, ticket)
    return dates(state, list(state.queue)[: state.queue.position(ticket)])[-1]


def _tell(state: State, ticket: Ticket, position: int, eta: float | None, forecast: Forecast) -> None:
    """Who stands far behind is not told whom it waits for: that will have changed before its turn."""
    date = forecast.date(ticket) if position <= SURE_OF else None
    waits_for = () if date is None else blockers(state, ticket, date)
    due = None if eta is None else state.now + eta
    standing = (position, waits_for)
    if ticket.told is not None and ticket.told[0] == standing and not _is_news(state, ticket.told[1], due):
        return
    ticket.told = standing, due
    state.outbox.append(
        ReportProgress(
            ticket=ticket.id,
            owner=ticket.owner,
            position=position,
            eta=eta,
            waits_for=waits_for,
            shortfalls=() if date is None else shortfalls(state, ticket.ask.options),
            turns=() if date is None else turns(state, ticket, date),
        )
    )


def _is_news(state: State, old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > max(PERIOD, _NEWS * abs(old - state.now))


def blockers(state: State, ticket: Ticket, date: Date) -> tuple[str, ...]:
    """Its quota, or the instances that must end or have a slot; or the devices that nobody of ours can free."""
    if quota := state.over_quota(ticket):
        return (quota,)
    if date.awaits:
        return date.awaits
    return tuple(dict.fromkeys(h.name for s in shortfalls(state, ticket.ask.options) for h in s.holders))
