"""Swaps: instances in use make way for a ticket that waits for their bytes.

In: the head's date, and the instances that it waits for. Out: ``ReportSwap`` and, at last, ``StopInstance``. The rule:
a swap is announced, and the instance goes on serving. When its turn is over it is closed: it accepts no new requests,
finishes those that it has, and is evicted as soon as it has no lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.queue import rank
from lmxd.core.books.reach import Reach
from lmxd.core.books.state import State
from lmxd.core.decisions import ReportSwap
from lmxd.core.holders import Ticket
from lmxd.core.instances import Instance
from lmxd.core.making_way import Swap
from lmxd.core.policy.dates import Date
from lmxd.core.policy.eviction import evictable, reload_cost
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.quantum import price, turn_ends
from lmxd.core.policy.room import check, make_room
from lmxd.core.policy.sleep import sleepers, wakes
from lmxd.core.words import Cause, InstanceId, Kind, Option, Phase, TicketId

_NEWS: Final = 1.0
"""Seconds by which a closing time must change to be reported again."""
_PART: Final = 0.2
"""The part of the time left by which it must change as well, for it varies a little with each user's recent use."""


def swaps(state: State, reach: Reach, forecast: Forecast, ticket: Ticket, date: Date) -> dict[InstanceId, Swap]:
    """The swaps for a ticket: which of the instances that its date waits for make way, and when.

    There are no more than are needed. The instance that is free last closes when its turn is over. The others close
    only shortly before that, for their bytes alone would not suffice.
    """
    assert date.option is not None
    needed = _needed(state, reach, date.option, [i for i in state.among(date.awaits) if i.live])
    if not needed:
        return {}
    free_at = {i.id: forecast.free_at(i, ticket) for i in needed}
    last = max(needed, key=lambda i: free_at[i.id])
    return {
        i.id: Swap(
            ticket=ticket.id,
            profile=ticket.ask.profile,
            closes_at=max(
                forecast.closes_at(i, ticket),
                # for the last one, each request in flight would postpone its own closing
                free_at[last.id] - state.expectations.held_for(i.ask.profile) if i is not last or i.held_idle else 0.0,
            ),
            price=price(state, i, ticket.ask),
            turn_ends=turn_ends(state, i, ticket),
        )
        for i in needed
        if not i.ask.external
    }


def _needed(state: State, reach: Reach, option: Option, awaited: list[Instance]) -> list[Instance]:
    """The instances without which the option would not fit. The dearest to load again are spared first."""
    needed = list(awaited)
    for instance in sorted(awaited, key=lambda i: (i.swap is None, reload_cost(state, i)), reverse=True):
        fewer = [i for i in needed if i is not instance]
        if _suffices(state, reach, option, fewer):
            needed = fewer
    return needed


def _suffices(state: State, reach: Reach, option: Option, leaving: Iterable[Instance]) -> bool:
    asleep = [i for i in state.asleep.values() if evictable(state, i)]  # they end before any other
    charges = [state.ledger.charge(i.id) for i in (*leaving, *asleep)]
    return all(
        reach.sure(device) + sum(c.get(device, 0) for c in charges) >= need for device, need in option.demand.items()
    )


def taken_over(state: State, swap: Swap, ticket: Ticket) -> Swap:
    """A swap whose ticket waits no longer, as a swap for ``ticket``."""
    if state.waiting(swap.ticket) is not None:
        return swap
    return replace(swap, ticket=ticket.id, profile=ticket.ask.profile)


def cancel_stale(state: State) -> set[Kind]:
    """Cancel swaps whose ticket waits no longer. Returns the kinds of the instances that accept requests again."""
    opened: set[Kind] = set()
    for instance in list(state.swapping.values()):
        assert instance.swap is not None
        if state.waiting(instance.swap.ticket) is None:
            opened |= _take_back(state, instance)
    return opened


def apply_swaps(state: State, wanted: Mapping[InstanceId, Swap], head: Ticket | None) -> set[Kind]:
    """Announce new swaps, close instances, and cancel swaps that are not wanted any more.

    Returns the kinds of the instances that accept requests again. Swaps for tickets behind the head are decided once a
    second, and stand until then if these still wait.
    """
    opened: set[Kind] = set()
    for instance in list(state.swapping.values()):
        assert instance.swap is not None
        ticket = state.waiting(instance.swap.ticket)
        if (state.step.time_passed or ticket is None or ticket is head) and instance.id not in wanted:
            opened |= _take_back(state, instance)
    for name, swap in wanted.items():
        found = state.instances.get(name)  # it may have ended, or its ticket been served
        if found is not None and found.live and state.waiting(swap.ticket):
            _announce(state, found, swap)
    _evict_the_unused(state, head)
    return opened


def _take_back(state: State, instance: Instance, *, unused: bool = False) -> set[Kind]:
    """Cancel a swap. ``unused``: it would free no bytes, because the leases are idle."""
    swap, was_closed = instance.swap, instance.closed
    assert swap is not None
    state.drop_swap(instance)
    _report(state, instance, swap, None, unused=unused)
    return {instance.ask.kind} if was_closed else set()


def _announce(state: State, instance: Instance, swap: Swap) -> None:
    old, was_closed = instance.swap, instance.closed
    over = swap.closes_at <= state.now
    opens_at_once = instance.held_idle and instance.unused(state.now)
    closes = over and instance.phase is Phase.READY and not instance.vacant and not opens_at_once
    closed = was_closed or closes
    state.put_swap(instance, swap, closed=closed)
    if closed and not was_closed:
        _requeue(state, instance.ask.kind)
    if not closed:
        state.alarms.set((AlarmKind.SWAP, instance.id), state.now + _NEWS if over else swap.closes_at)
    news = old is None or old.ticket != swap.ticket or closed != was_closed
    told = instance.swap_told
    moved = abs(told - swap.closes_at) > max(_NEWS, _PART * (told - state.now))
    if news or (moved and not over and not closed and not instance.vacant):
        instance.swap_told = swap.closes_at
        closes_in, unused = instance.closes_in(state.now), instance.unused(state.now)
        _report(state, instance, swap, closes_in, unused=unused)


def _requeue(state: State, kind: Kind) -> None:
    """Rank the tickets of a closed kind as if they had asked now, behind those that waited during its turn.

    Else the older of them would get the bytes back at once (docs/adr/0015).
    """
    if any(i.accepts for i in state.live_by_kind[kind].values()):
        return
    waiting = list(state.queue.of(kind))
    for ticket in waiting:
        ticket.queued_at = state.now
    shares, policy = state.shares, state.policy
    state.queue.rank_anew((t, rank(t, policy, shares.lateness(t.owner, policy))) for t in waiting)


def _evict_the_unused(state: State, head: Ticket | None) -> None:
    """Evict closed instances that have no lease; vacant ones as well, once all others of the same swap are closed."""
    groups: dict[TicketId, list[Instance]] = {}
    for instance in state.swapping.values():
        assert instance.swap is not None
        groups.setdefault(instance.swap.ticket, []).append(instance)
    for ticket, group in groups.items():
        if (waiting := state.waiting(ticket)) is None:
            continue
        all_closed = all(i.closed or i.vacant for i in group)
        asleep = sleepers(state, group, (*wakes(state, waiting.ask), *waiting.ask.options)) if all_closed else ()
        for instance in group:
            if evictable(state, instance) and (instance.closed or all_closed):
                why = f"its turn is over, and {ticket} waits for its bytes"
                make_room(state, (instance,), Cause.EVICTED, why, asleep=asleep)
                if head is not None and head.id == ticket and not instance.live:
                    state.promise(head)


def reopen_the_unused(state: State) -> None:
    """Open closed instances again whose leases are idle, for closing them does not end these leases.

    When time passes, ask the engines of the others whether they are still busy.
    """
    for instance in list(state.swapping.values()):
        if instance.closed and instance.known_idle(state.now) and instance.unused(state.now) and _reopens(instance):
            state.step.serve_again = True
            _take_back(state, instance, unused=True)
        elif state.step.time_passed and (instance.closed or (instance.vacant and instance.busy)):
            check(state, instance)


def _reopens(instance: Instance) -> bool:
    """Whether a closed instance with idle leases is opened again.

    It is, while one of the leases lasts that it had when it first closed for this ticket. Later leases do not count:
    else clients that hold idle leases in turn would keep it for ever.
    """
    assert instance.swap is not None
    if instance.reopened_for != instance.swap.ticket:
        instance.reopened_for, instance.idle_leases = instance.swap.ticket, frozenset(instance.leases)
    return instance.held_idle


def _report(state: State, instance: Instance, swap: Swap, closes_in: float | None, *, unused: bool) -> None:
    ticket = state.ticket(swap.ticket)
    state.step.decisions.append(
        ReportSwap(
            instance=instance.id,
            ticket=swap.ticket,
            profile=swap.profile,
            owner=None if ticket is None else ticket.owner,
            closes_in=closes_in,
            price=swap.price,
            unused=unused,
        )
    )
