"""Instances that make way for somebody who waits for their bytes: announced, closed when their turn is over, gone.

Between the announcement and its end an instance goes on serving all who want it. When it is closed it takes no new
ones, finishes what it does, and is evicted as soon as nobody has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from lmxd.core.books.alarms import AlarmKind
from lmxd.core.books.queue import rank
from lmxd.core.books.reach import Reach
from lmxd.core.books.state import State
from lmxd.core.decisions import ReportSwap
from lmxd.core.instances import Instance, Swap, Ticket
from lmxd.core.policy.dates import Date
from lmxd.core.policy.eviction import evictable, reload_cost
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.quantum import price, turn_ends
from lmxd.core.policy.room import check, make_room
from lmxd.core.words import Cause, InstanceId, Kind, Option, Phase, TicketId

_NEWS: Final = 1.0
"""Seconds by which the time of its closing must have moved to be told again."""
_PART: Final = 0.2
"""The part of the time until then by which it must have moved, too: it moves with what each user has used by now."""


def swaps(state: State, reach: Reach, forecast: Forecast, ticket: Ticket, date: Date) -> dict[InstanceId, Swap]:
    """Which of the instances that a date awaits make way for it, and when: no more of them than are needed.

    None of them closes long before the last one can be gone, which closes when its turn is over.
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
                # for the last itself, what is in flight on it would put that off again and again
                free_at[last.id] - state.expectations.held_for(i.ask.profile) if i is not last or i.idled else 0.0,
            ),
            price=price(state, i, ticket.ask),
            turn_ends=turn_ends(state, i, ticket),
        )
        for i in needed
        if not i.ask.external
    }


def _needed(state: State, reach: Reach, option: Option, awaited: list[Instance]) -> list[Instance]:
    """Those without which it would not fit: who costs most to load again is spared first."""
    needed = list(awaited)
    for instance in sorted(awaited, key=lambda i: (i.swap is None, reload_cost(state, i)), reverse=True):
        fewer = [i for i in needed if i is not instance]
        if _suffices(state, reach, option, fewer):
            needed = fewer
    return needed


def _suffices(state: State, reach: Reach, option: Option, leaving: Iterable[Instance]) -> bool:
    charges = [state.ledger.charge(i.id) for i in leaving]
    return all(
        reach.sure(device) + sum(c.get(device, 0) for c in charges) >= need for device, need in option.demand.items()
    )


def open_again(state: State) -> set[Kind]:
    """Those that were to make way for somebody who does not wait any more need not. Returns the kinds of which."""
    opened: set[Kind] = set()
    for instance in list(state.swapping.values()):
        assert instance.swap is not None
        if state.waiting(instance.swap.ticket) is None:
            opened |= _take_back(state, instance)
    return opened


def settle(state: State, wanted: Mapping[InstanceId, Swap], head: Ticket | None) -> set[Kind]:
    """Announce, close, and take back. Returns the kinds of which instances are open again.

    Swaps for others than the head are decided once a second, and stand until then if those still wait.
    """
    opened: set[Kind] = set()
    for instance in list(state.swapping.values()):
        assert instance.swap is not None
        ticket = state.waiting(instance.swap.ticket)
        if (state.step.time_passed or ticket is None or ticket is head) and instance.id not in wanted:
            opened |= _take_back(state, instance)
    for name, swap in wanted.items():
        found = state.instances.get(name)  # it may have been ended for another since, or its ticket been served
        if found is not None and found.live and state.waiting(swap.ticket):
            _announce(state, found, swap)
    _evict_the_unused(state, head)
    return opened


def _take_back(state: State, instance: Instance) -> set[Kind]:
    swap, was_closed = instance.swap, instance.closed
    assert swap is not None
    state.drop_swap(instance)
    _report(state, instance, swap, None)
    return {instance.ask.kind} if was_closed else set()


def _announce(state: State, instance: Instance, swap: Swap) -> None:
    old, was_closed = instance.swap, instance.closed
    over = swap.closes_at <= state.now
    closed = was_closed or (over and instance.phase is Phase.READY and not instance.vacant)
    state.put_swap(instance, swap, closed=closed)
    if closed and not was_closed:
        _line_up_again(state, instance.ask.kind)
    if not closed:
        state.alarms.set((AlarmKind.SWAP, instance.id), state.now + _NEWS if over else swap.closes_at)
    news = old is None or old.ticket != swap.ticket or closed != was_closed
    told = instance.swap_told
    moved = abs(told - swap.closes_at) > max(_NEWS, _PART * (told - state.now))
    if news or (moved and not closed and not instance.vacant):
        instance.swap_told = swap.closes_at
        _report(state, instance, swap, instance.closes_in(state.now))


def _line_up_again(state: State, kind: Kind) -> None:
    """Its turn is over: who still waits for it stands behind those who waited for theirs meanwhile."""
    if any(i.accepts for i in state.kin[kind].values()):
        return
    waiting = list(state.queue.of(kind))
    for ticket in waiting:
        ticket.queued_at = state.now
    shares, policy = state.shares, state.policy
    state.queue.rank_anew((t, rank(t, policy, shares.lateness(t.owner, policy))) for t in waiting)


def _evict_the_unused(state: State, head: Ticket | None) -> None:
    """Those go at once that are closed and done, and with the last that closes those that nobody has."""
    groups: dict[TicketId, list[Instance]] = {}
    for instance in state.swapping.values():
        assert instance.swap is not None
        groups.setdefault(instance.swap.ticket, []).append(instance)
    for ticket, group in groups.items():
        if state.waiting(ticket) is None:
            continue
        all_closed = all(i.closed or i.vacant for i in group)
        for instance in group:
            if evictable(state, instance) and (instance.closed or all_closed):
                make_room(state, (instance,), Cause.EVICTED, f"its turn is over, and {ticket} waits for its bytes")
                if head is not None and head.id == ticket and not instance.live:
                    state.promise(head)


def look_again(state: State) -> None:
    """Once a second: whether what is to make way is still at something.

    A closed instance that nobody uses, though somebody has it, does not go by being closed: it is opened again.
    """
    for instance in list(state.swapping.values()):
        if instance.closed and instance.known_idle(state.now) and instance.unused(state.now) and _reopens(instance):
            state.step.serve_again = True
            _take_back(state, instance)
        elif state.step.time_passed and (instance.closed or (instance.vacant and instance.busy)):
            check(state, instance)


def _reopens(instance: Instance) -> bool:
    """Whether a closed instance that nobody uses is opened once more.

    It is for the leases that it has when it first closes for a ticket, as long as one of them lasts. Leases that came
    later had their chance: else agents that take turns at doing nothing would keep it for ever.
    """
    assert instance.swap is not None
    if instance.opened_for != instance.swap.ticket:
        instance.opened_for, instance.idlers = instance.swap.ticket, frozenset(instance.leases)
    return instance.idled


def _report(state: State, instance: Instance, swap: Swap, closes_in: float | None) -> None:
    ticket = state.ticket(swap.ticket)
    state.step.decisions.append(
        ReportSwap(
            instance=instance.id,
            ticket=swap.ticket,
            profile=swap.profile,
            owner=None if ticket is None else ticket.owner,
            closes_in=closes_in,
            price=swap.price,
            unused=instance.unused(state.now),
        )
    )
