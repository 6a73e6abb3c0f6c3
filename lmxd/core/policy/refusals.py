"""Refusals: the code, sentence, figures and remedy of every "no" that admission gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Final

from lmxd.core.answers import Refusal, Shortfall, Turn
from lmxd.core.books.failed import Failed
from lmxd.core.books.quotas import over_quota
from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.policy.dates import Date
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.placement import shortfalls, useful_shortfalls
from lmxd.core.policy.turns import turns
from lmxd.core.reasons import RefusalCode
from lmxd.core.words import Ask, User
from lmxd.failures import remedy_of
from lmxd.text import several, user_name

_NAMED: Final = 3
"""The number of users that ``queue_full`` names: those with the most requests."""
_PATIENCE: Final = "ask again later, wait longer (--wait, or Prefer: wait), or "
_SECTIONS: Final = {"key": "keys", "group": "groups"}
"""The section of the configuration that has a quota, by the first word of its sentence; of a uid, it is users."""
_LIMITS: Final = {"leases": "max_leases", "holds": "max_holds"}
"""The key of a limit, by the last word of its sentence; of bytes, it is another."""
_WAITED: Final = "the request waited as long as it would"
_ANEW: Final = "release the lease and make a new request for this context"
_LATER: Final = "allow a later deadline, or ask for less"


def no_capacity(state: State, ticket: Ticket) -> Refusal:
    date = Forecast(state).date(ticket)
    if not date.by_slot:
        message = no_room(useful_shortfalls(state, ticket))
    elif has_all_instances(state, ticket):
        message = taken(date.awaits)
    else:
        message = "all slots of the model's instances are taken, and there is no room for another"
    return _short(state, ticket, date, RefusalCode.NO_CAPACITY, message)


def no_room(found: Sequence[Shortfall]) -> str:
    """The sentence that says what a request lacks: free bytes, or a device that answers."""
    if found and all(s.unavailable is not None for s in found):
        return "it has no device to run on"
    return "there is no room now"


def taken(instances: Sequence[str]) -> str:
    """The sentence on instances that have no slot."""
    return f"all slots of {several(instances)} are taken"


def wait_expired(state: State, ticket: Ticket) -> Refusal:
    if quota := over_quota(state, ticket):
        return replace(beyond_quota(quota), code=RefusalCode.WAIT_EXPIRED, message=f"{_WAITED}: {quota}")
    date = Forecast(state).date(ticket)
    return _short(state, ticket, date, RefusalCode.WAIT_EXPIRED, _WAITED)


def queue_full(state: State, ticket: Ticket, waiting: Counter[User]) -> Refusal:
    """The queue has no place for a ticket. It names the users with the most requests in it."""
    most = ", ".join(f"{count} of {user_name(*who)}" for who, count in waiting.most_common(_NAMED))
    whose = f"all of {user_name(*next(iter(waiting)))}" if len(waiting) == 1 else most
    more = f" and {len(waiting) - _NAMED} others" if len(waiting) > _NAMED else ""
    message = f"{state.policy.queue_depth} requests of this class or a higher one wait already: {whose}{more}"
    remedy = "ask again later, or have admission_control.queue_depth raised"
    return _short(state, ticket, Forecast(state).date(ticket), RefusalCode.QUEUE_FULL, message, remedy)


def _turns(state: State, ticket: Ticket) -> tuple[Turn, ...]:
    return turns(state, ticket, Forecast(state).date(ticket))


def _short(
    state: State, ticket: Ticket, date: Date, code: RefusalCode, message: str, remedy: str | None = None
) -> Refusal:
    found, slots = useful_shortfalls(state, ticket), _slots(state, ticket.ask)
    remedy = remedy or _PATIENCE + ("hold less" if ticket.ask.external else "ask for a smaller context")
    return Refusal(
        code=code,
        message=message,
        remedy=_remedy(found, ", or ".join((remedy, *slots))),
        would_help=slots,
        shortfalls=found,
        turns=turns(state, ticket, date),
        retry_in=None if date.at == inf else date.at - state.now,
    )


def _remedy(found: tuple[Shortfall, ...], usual: str) -> str:
    """The remedy of the devices that do not answer; the usual one where others could make room."""
    faulty = {s.called[s.device]: s.remedy for s in found if s.unavailable is not None and s.remedy}
    if not faulty:
        return usual
    if len(set(faulty.values())) == 1 and len(faulty) == len(found):
        return next(iter(faulty.values()))
    by_remedy = {remedy: [d for d, r in faulty.items() if r == remedy] for remedy in faulty.values()}
    theirs = "; ".join(f"{', '.join(devices)}: {remedy}" for remedy, devices in by_remedy.items())
    return theirs if len(faulty) == len(found) else f"{usual}; {theirs}"


def never_fits(state: State, ticket: Ticket) -> Refusal:
    less = "hold less" if ticket.ask.external else "ask for a smaller context, or take a smaller model or cache type"
    return Refusal(
        code=RefusalCode.NEVER_FITS,
        message="the request exceeds what the device could ever give it",
        remedy=", or ".join((less, *raised(state, ticket.ask))),
        would_help=raised(state, ticket.ask),
        shortfalls=shortfalls(state, ticket.ask),
    )


def never_beside(state: State, ticket: Ticket) -> Refusal:
    """The refusal of a growth that fits the device, but not beside the instance that its lease has until then."""
    assert ticket.moves is not None
    return Refusal(
        code=RefusalCode.NEVER_FITS,
        message=f"it never fits beside {state.leases[ticket.moves].instance}, which is pinned",
        remedy=", or ".join((_ANEW, *raised(state, ticket.ask))),
        would_help=raised(state, ticket.ask),
        shortfalls=shortfalls(state, ticket.ask),
    )


def standstill(state: State, ticket: Ticket, others: Sequence[Ticket]) -> Refusal:
    """The refusal of a growth that waits for what ``others`` keep, which wait to grow themselves."""
    keep = [state.leases[t.moves].instance for t in others if t.moves is not None and t is not ticket]
    return Refusal(
        code=RefusalCode.NO_CAPACITY,
        message=f"there is no room beside {several(keep)}, whose leases wait to grow, too",
        remedy=f"{_ANEW}, or ask again later",
        shortfalls=shortfalls(state, ticket.ask),
    )


def raised(state: State, ask: Ask) -> tuple[str, ...]:
    """The rest of a remedy, where a configured limit keeps back bytes of a device that a request may go to."""
    accounts = [state.ledger.accounts.get(device) for option in ask.options for device in option.demand]
    return ("raise max_memory_gb",) if any(a is not None and a.limited for a in accounts) else ()


def _slots(state: State, ask: Ask) -> tuple[str, ...]:
    """The rest of a remedy, where an instance of the model runs, of which all slots are taken."""
    taken = [i.ask.spread - i.free_slots for i in state.able(ask) if i.free_slots < ask.slots and i.shared]
    if not taken or not ask.share or ask.external:
        return ()
    return (f"have slots: {min(taken) + ask.slots} in its profile, with which one instance serves both",)


def beyond_quota(which: str, first: str = "ask again when a lease of it has ended") -> Refusal:
    """``first``: what helps without another configuration; nothing, if it is empty."""
    more = _more(which, _LIMITS.get(which.rpartition(" ")[2], "max_memory_gb"))
    remedy = f"{first}, or {more}" if first else more
    return Refusal(code=RefusalCode.OVER_QUOTA, message=which, remedy=remedy, would_help=(more,))


def _more(who: str, limit: str) -> str:
    return f"have {limit} in {_SECTIONS.get(who.partition(' ')[0], 'users')}: raised"


def too_many_waiting(who: str, most: int) -> Refusal:
    more = _more(who, "max_waiting")
    return Refusal(
        code=RefusalCode.TOO_MANY_WAITING,
        message=f"{who} has {most} request{'' if most == 1 else 's'} waiting already, which is the most it may have",
        remedy=f"cancel one, or ask again later, or {more}",
        would_help=(more,),
    )


def late(state: State, ticket: Ticket, eta: float | None) -> Refusal:
    """``eta``: seconds from now until the lease could be granted, None if unknown."""
    assert ticket.deadline_at is not None
    left = ticket.deadline_at - state.now
    if left <= 0:
        return Refusal(
            code=RefusalCode.DEADLINE,
            message=f"the lease was not granted within {state.now - ticket.asked_at:.1f} s",
            remedy=_LATER,
            shortfalls=() if ticket.instance else useful_shortfalls(state, ticket),
            turns=() if ticket.instance else _turns(state, ticket),
        )
    found = useful_shortfalls(state, ticket)
    could = "nothing can be said of when" if eta is None else f"it is expected in {eta:.1f} s"
    return Refusal(
        code=RefusalCode.DEADLINE,
        message=f"the lease cannot be granted within {left:.1f} s: {could}",
        remedy=_remedy(found, _LATER),
        shortfalls=found,
        turns=_turns(state, ticket),
        retry_in=eta,
    )


def failed_lately(state: State, failed: Failed) -> Refusal:
    left = failed.until - state.now
    times = "once" if failed.count == 1 else f"{failed.count} times in a row"
    return Refusal(
        code=RefusalCode.LAUNCH_FAILED,
        message=f"it failed to load {times}, and is not tried again for {left:.1f} s: {failed.failure.message}",
        remedy=", then ".join(filter(None, (remedy_of(failed.failure.code), "wait, or lmxctl reload"))),
        failure=failed.failure,
        retry_in=left,
    )
