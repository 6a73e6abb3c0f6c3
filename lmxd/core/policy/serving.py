"""Scheduling: serve the tickets in order of the queue, with backfill behind the first that cannot be served.

In: the queue, and the bytes in reach. Out: grants, starts, evictions and swaps, and the head of the queue. The rule:
slots first, then bytes. A ticket that a running instance can serve is served, whatever its place, for that takes no
bytes from others. Then tickets get bytes in order. The first that cannot have them is the head, and gets a date.
Tickets behind it are served only with bytes that the head will not need at its date (backfill).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from math import inf
from typing import Final

from lmxd.core.books.endings import refuse
from lmxd.core.books.quotas import beyond_bound, over_quota
from lmxd.core.books.state import State
from lmxd.core.final_refusals import DRAINING
from lmxd.core.holders import Ticket
from lmxd.core.policy import refusals
from lmxd.core.policy.differences import by_difference
from lmxd.core.policy.eviction import NOBODY, EvictionPlan
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.placement import widest
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.policy.replacing import larger
from lmxd.core.policy.room import make_room
from lmxd.core.policy.scheduling_pass import PLANS, SchedulingPass, goes_anywhere
from lmxd.core.policy.sharing import is_being_asked, serve_slot, share
from lmxd.core.policy.shrinking import by_shrinking
from lmxd.core.policy.sleep import sleepers, wakes
from lmxd.core.policy.starts import attach, start
from lmxd.core.policy.swaps import apply_swaps, cancel_stale, swaps, taken_over
from lmxd.core.words import Cause, Option

LOOKAHEAD: Final = 64
"""The groups behind the head that are looked at when bytes come free, to bound the time. A new request always is."""

WEIGHED: Final = 8
"""The number of options for which an eviction is planned, to bound the time; the cheapest plan is taken."""


class Scheduler:
    """Serves the queue, and keeps the last look at it: new requests use that until bytes or slots come free."""

    def __init__(self) -> None:
        self.last: SchedulingPass | None = None

    def serve(self, state: State) -> Ticket | None:
        """Serve the queue in order. Returns the head, which could not be served; None if all were."""
        cancel_stale(state)
        share(state, state.with_free_slots.keys() & state.queue.kinds)
        this = self.last = SchedulingPass(state, self.last)
        fronts = state.queue.fronts()
        for front in fronts:
            serve_group(this, front)
            if this.head is not None:
                break
        for front in _within_reach(this, islice(fronts, LOOKAHEAD)):
            serve_group(this, front)
        state.head = this.head
        _keep_promise(this)
        share(state, apply_swaps(state, this.swaps, this.head))
        return this.head

    def serve_newcomer(self, state: State, ticket: Ticket) -> None:
        """Serve a new ticket, where nothing else has changed and others stand before it.

        The last look at the queue is still true, less the bytes that new tickets took since. If others wait for bytes,
        no eviction is planned for it now, unless it grows: that is done when the queue is next looked at.
        """
        this = self.last
        if this is None or over_quota(state, ticket):
            return
        this.plans = 0 if this.head is not None and ticket.moves is None else PLANS
        _served(this, ticket)
        state.head = this.head
        _keep_promise(this)


def _keep_promise(this: SchedulingPass) -> None:
    """Note for the head that instances are ending for it."""
    if this.promised is not None and this.state.waiting(this.promised.id):
        this.state.promise(this.promised)


def _within_reach(this: SchedulingPass, behind: Iterable[Ticket]) -> Iterator[Ticket]:
    """The groups behind the head that are worth a look: most find neither a slot nor enough bytes.

    ``largest`` is compared here and in ``is_hopeless``, for a call for each of so many would take too long.
    """
    state = this.state
    largest, open = this.reach.largest, state.with_free_slots
    for front in behind:
        ask = front.ask
        if (
            front.moves is None
            and (ask.need > largest or this.is_hopeless(ask))
            and ask.kind not in open
            and not wakes(state, ask)
            and not (state.step.refuse_again or this.swaps_for_others)
        ):
            front.room_being_made = False
            continue
        yield front
        largest = this.reach.largest


def serve_group(this: SchedulingPass, front: Ticket) -> None:
    """Serve the tickets of a group in order, until one cannot be served: then the others cannot either."""
    state = this.state
    if state.waiting(front.id) is None:
        return  # it shares an instance that was started for an earlier ticket
    if state.step.refuse_again and refused(state, front):
        for ticket in state.queue.group(front):  # the group asks for the same: all are refused
            refused(state, ticket)
        return
    for ticket in state.queue.group(front):
        if ticket.instance is not None or over_quota(state, ticket):
            continue  # its own quota does not delay other users
        if not _served(this, ticket):
            return


def refused(state: State, ticket: Ticket) -> bool:
    """Refuse a ticket that cannot be served at all: lmxd drains, it never fits, its user has too much, or it failed."""
    if state.draining:
        refuse(state, ticket, DRAINING)
    elif state.policy.enforce and not any(state.ledger.could_ever_fit(o.demand) for o in ticket.ask.options):
        refuse(state, ticket, refusals.never_fits(state, ticket))
    elif too_many := beyond_bound(state, ticket):
        refuse(state, ticket, refusals.beyond_quota(too_many))
    elif failed := state.failed.backing_off(ticket.ask.launch, state.now):
        refuse(state, ticket, refusals.failed_lately(state, failed))
    else:
        return False
    return True


def _served(this: SchedulingPass, ticket: Ticket) -> bool:
    """Serve a ticket; one that is to be apart from others shares with them where there is no room."""
    if _tried(this, ticket):
        return True
    if not ticket.apart or ticket.room_being_made:
        return False
    ticket.apart = frozenset()
    return _tried(this, ticket)


def _tried(this: SchedulingPass, ticket: Ticket) -> bool:
    """Serve a ticket by a slot, or by free bytes. If there are none, make room, or plan a swap."""
    state, ask = this.state, ticket.ask
    if serve_slot(state, ticket):
        return True
    ticket.room_being_made = is_being_asked(state, ticket)
    if ticket.room_being_made:
        return False  # an engine says in a moment whether another user left work behind
    this.swaps |= larger(state, this.forecast, ticket)
    if has_all_instances(state, ticket):
        return False  # it waits for a slot of a running instance
    if state.policy.enforce and this.is_hopeless(ask) and not (wakes(state, ask) or ticket.moves):
        _shrink_for(this, ticket)  # only that can help, or a swap
    elif ticket.deadline_at is not None and state.now + load_seconds(state, ask) > ticket.deadline_at:
        return False  # a load would take too long: it needs a slot
    elif (option := _place(this, ticket)) and not _make_room_rather(this, ticket, option):
        ahead = "" if this.head is None else ", ahead of the head of the queue, whom that does not put off"
        why = f"it fits what is free{ahead}"
        attach(state, ticket, start(state, ask, option, f"for {ticket.id}: {why}"), why)
        this.spend(option.demand)
        share(state, ({ask.kind} | cancel_stale(state)) & state.queue.kinds)
        state.counts["backfilled"] += this.head is not None
        return True
    elif option is None and (ticket.moves is not None or not ticket.apart):
        _make_room_for(this, ticket)
        if not ticket.room_being_made and goes_anywhere(state, ask):
            this.too_large = min(this.too_large, ask.need)
    if not ticket.room_being_made:
        _swap_for(this, ticket)
    elif this.head is None:
        this.head = ticket
    return False


def _place(this: SchedulingPass, ticket: Ticket) -> Option | None:
    """The option at which an instance wakes, or is started now; None if it fits nowhere."""
    state, ask = this.state, ticket.ask
    if not state.policy.enforce:
        return next(iter(wakes(state, ask)), None) or widest(state, ask.options)
    fits = state.ledger.fits  # this look may be out of date
    ways = chain(wakes(state, ask), this.reach.fitting(ask))
    return next((o for o in ways if this.spares(o.demand, ticket) and fits(o.demand)), None)


def _make_room_rather(this: SchedulingPass, ticket: Ticket, option: Option) -> bool:
    """Evict idle instances though ``option`` fits: so that less of it runs in RAM, or to wake one that sleeps.

    The second only if the wake saves more seconds of loading than it costs to have those again.
    """
    ask, expectations = ticket.ask, this.state.expectations
    if option.wakes is not None:
        return False
    saved = expectations.launch(ask.profile, ask.size, ask.begun) - expectations.wake(ask.profile, ask.size)
    if wakes(this.state, ask) and _make_room_for(this, ticket, wakes_for=saved):
        return True
    return bool(option.spills) and _make_room_for(this, ticket, option.spills)


def _make_room_for(
    this: SchedulingPass, ticket: Ticket, spills: float = inf, *, wakes_for: float | None = None
) -> bool:
    """Evict idle instances for a ticket, if that suffices, and then less than ``spills`` of it runs in RAM.

    ``wakes_for``: only so that one that sleeps is woken, and if the evictions cost no more seconds than these.
    """
    if not this.plans:
        return False
    plan = _eviction(this, ticket, spills, wakes_for is not None)
    if spills == inf and wakes_for is None and (plan is None or plan.rank > NOBODY) and _shrink_for(this, ticket):
        return True
    if plan is not None and (wakes_for is None or plan.cost <= wakes_for):
        _carry_out(this, ticket, plan, Cause.EVICTED, "the cheapest way to make room")
    return ticket.room_being_made


def _shrink_for(this: SchedulingPass, ticket: Ticket) -> bool:
    """Have idle instances shrink for the first ticket that waits for bytes, if that suffices."""
    if this.head is not None or not this.state.policy.enforce:
        return False
    ways = chain(wakes(this.state, ticket.ask), ticket.ask.options)
    plan = by_shrinking(this.state, this.reach, this.shrinkable, islice(ways, WEIGHED))
    if plan is not None:
        _carry_out(this, ticket, plan, Cause.SHRUNK, "less context is enough for it, and that makes room")
    return plan is not None


def _carry_out(this: SchedulingPass, ticket: Ticket, plan: EvictionPlan, cause: Cause, how: str) -> None:
    """End the instances of a plan, and keep their bytes for the ticket."""
    state, ticket.room_being_made = this.state, True
    asleep = sleepers(state, plan.leaving, (plan.option,))
    make_room(state, plan.leaving, cause, f"{how} for {ticket.id} ({ticket.ask.profile})", asleep=asleep)
    this.swaps |= {i.id: taken_over(state, i.swap, ticket) for i in plan.leaving if i.swap and i.live}
    this.spend(plan.option.demand)
    if this.head is None:
        this.promise(plan)
        this.promised = ticket if any(not i.live for i in plan.leaving) else None


def _eviction(this: SchedulingPass, ticket: Ticket, spills: float, wakes_only: bool) -> EvictionPlan | None:
    """The cheapest plan that makes room for a ticket; a growth may have the bytes of its own instance as well."""
    state, reach = this.state, this.reach
    if ticket.moves is not None:
        this.plans -= 1
        return by_difference(state, reach, ticket, spills)
    ways = chain(wakes(state, ticket.ask), () if wakes_only else reach.options(ticket.ask))
    within = (o for o in ways if o.spills < spills and this.spares(o.demand, ticket))
    options = list(islice(within, WEIGHED))
    if not options:
        return None
    this.plans -= 1
    return this.planner.best(state, reach, options)


def _swap_for(this: SchedulingPass, ticket: Ticket) -> None:
    """Plan swaps for a ticket: for the head at every look, for others once a second.

    A ticket that will have a slot sooner than bytes waits for that, and is no head; nobody makes way so that another
    need not share.
    """
    state, ask = this.state, ticket.ask
    if not ticket.patient or ticket.apart:
        return
    if (this.head is not None and not this.swaps_for_others) or ticket.group in this.sharing:
        return
    if last := this.same_head(ticket):
        this.head, this.date, this.extra = ticket, last.date, last.extra
        this.swaps |= {name: swap for name, swap in last.swaps.items() if swap.ticket == ticket.id}
        return
    date = this.forecast.date(ticket, without=this.extra.keys())
    if (date.option is None and date.at < inf) or any(i in state.able(ask) for i in state.among(date.awaits)):
        this.sharing.add(ticket.group)
        return
    this.swap_budget -= 1
    if this.head is None:
        this.head, this.date = ticket, date
    if date.option is None:
        return  # foreign memory or earlier tickets block it
    this.extra |= date.extra
    this.forecast.expect(ticket, date)
    this.swaps = swaps(state, this.reach, this.forecast, ticket, date) | this.swaps  # earlier tickets come first
