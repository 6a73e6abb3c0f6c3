"""Scheduling: serve the tickets in order of the queue, with backfill behind the first that cannot be served.

In: the queue, and the bytes in reach. Out: grants, starts, evictions and swaps, and the head of the queue. The rule:
slots first, then bytes. A ticket that a running instance can serve is served, whatever its place, for that takes no
bytes from others. Then tickets get bytes in order. The first that cannot have them is the head, and gets a date.
Tickets behind it are served only with bytes that the head will not need at its date (backfill).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import inf
from typing import Final

from lmxd.core.books.endings import refuse
from lmxd.core.books.quotas import beyond_bound, over_quota
from lmxd.core.books.state import State
from lmxd.core.final_refusals import DRAINING
from lmxd.core.instances import Swap, Ticket
from lmxd.core.policy import refusals
from lmxd.core.policy.dates import Date
from lmxd.core.policy.eviction import EvictionPlan, Planner, evictable
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.placement import widest
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.policy.replacing import larger
from lmxd.core.policy.room import make_room
from lmxd.core.policy.sharing import is_being_asked, serve_slot, share
from lmxd.core.policy.starts import attach, start
from lmxd.core.policy.swaps import apply_swaps, cancel_stale, swaps, taken_over
from lmxd.core.words import Ask, Cause, Demand, DeviceId, Group, InstanceId, Option

LOOKAHEAD: Final = 64
"""The groups behind the head that are looked at when bytes come free, to bound the time. A new request always is."""

WEIGHED: Final = 8
"""The number of options for which an eviction is planned, to bound the time; the cheapest plan is taken."""
PLANS: Final = 4
"""The number of tickets for which evictions are planned in one look at the queue, to bound the time."""


class SchedulingPass:
    """One look at the queue: the bytes in reach, and the bytes that the head needs at its date."""

    def __init__(self, state: State, last: SchedulingPass | None) -> None:
        self.state = state
        self.head: Ticket | None = None
        """The first ticket that waits for bytes."""
        self.last = last
        """The look before this one."""
        self.planner = Planner(state.now)
        if self.last is not None:
            self.last.last = None
            if self.last.planner.is_good(state.now):
                self.planner = self.last.planner
        self.reach = state.reach
        self.changed = self.reach.refresh(state.ledger.accounts, state.instances, lambda i: evictable(state, i))
        self.date: Date | None = None
        """The date of the head, if it waits for instances that others use."""
        self.forecast = Forecast(state)
        self.plans = PLANS
        self.swap_budget = PLANS
        """The number of tickets for which swaps may still be planned in this look."""
        self.too_large = inf
        """The fewest bytes that an ask could not have on any device. An ask for as many is not tried again."""
        self.promised: Ticket | None = None
        """The head, if instances are ending for it."""
        self.extra: dict[DeviceId, int] = {}
        """By device that a ticket waits for: the bytes that it will not need at its date."""
        self.swaps: dict[InstanceId, Swap] = {}
        """The instances that are to make way, and for which tickets."""
        self.sharing: set[Group] = set()
        """Groups that will have a slot of a running instance sooner than bytes."""

    @property
    def swaps_for_others(self) -> bool:
        """Whether swaps may be planned for tickets behind the head: once a second, and for few."""
        return self.state.step.time_passed and self.swap_budget > 0

    def is_hopeless(self, ask: Ask) -> bool:
        """Whether no device could give the bytes, or an ask for no more has just failed on all devices."""
        if ask.need > self.reach.largest:
            return True
        return ask.need >= self.too_large and _goes_anywhere(self.state, ask)

    def same_head(self, ticket: Ticket) -> SchedulingPass | None:
        """The last look, if it had the same head, and nothing has changed on the devices of the head's date."""
        last = self.last
        if self.head is not None or last is None or last.head is not ticket or self.state.step.time_passed:
            return None
        if last.date is None or last.date.option is None or self.changed & last.date.option.demand.keys():
            return None
        return last

    def spares(self, demand: Demand) -> bool:
        """Whether these bytes are not needed by an earlier ticket at its date."""
        extra = self.extra
        return not extra or all(need <= extra[device] for device, need in demand.items() if device in extra)

    def spend(self, demand: Demand) -> None:
        """Subtract bytes that a ticket gets now, or will get."""
        self.reach.commit(demand)
        for device in self.extra.keys() & demand.keys():
            self.extra[device] -= demand[device]

    def promise(self, plan: EvictionPlan) -> None:
        """Keep the bytes of an eviction plan for the head. The rest in ``reach`` may be used for backfill."""
        self.extra |= {device: self.reach.most(device) for device in plan.option.demand}


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
        no eviction is planned for it now: that is done when the queue is next looked at.
        """
        this = self.last
        if this is None or over_quota(state, ticket):
            return
        this.plans = 0 if this.head is not None else this.plans
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
            (ask.need > largest or this.is_hopeless(ask))
            and ask.kind not in open
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
    elif failed := state.backing_off(ticket.ask):
        refuse(state, ticket, refusals.failed_lately(state, failed))
    else:
        return False
    return True


def _served(this: SchedulingPass, ticket: Ticket) -> bool:
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
    if state.policy.enforce and this.is_hopeless(ask):
        pass  # only a swap can help
    elif ticket.deadline_at is not None and state.now + load_seconds(state, ask) > ticket.deadline_at:
        return False  # a load would take too long: it needs a slot
    elif (option := _place(this, ask)) and not (option.spills and _make_room_for(this, ticket, option.spills)):
        ahead = "" if this.head is None else ", ahead of the head of the queue, whom that does not put off"
        why = f"it fits what is free{ahead}"
        attach(state, ticket, start(state, ask, option, f"for {ticket.id}: {why}"), why)
        this.spend(option.demand)
        share(state, ({ask.kind} | cancel_stale(state)) & state.queue.kinds)
        state.counts["backfilled"] += this.head is not None
        return True
    elif option is None:
        _make_room_for(this, ticket)
        if not ticket.room_being_made and _goes_anywhere(state, ask):
            this.too_large = min(this.too_large, ask.need)
    if not ticket.room_being_made:
        _swap_for(this, ticket)
    elif this.head is None:
        this.head = ticket
    return False


def _goes_anywhere(state: State, ask: Ask) -> bool:
    return len(ask.singles) == len(state.ledger.accounts)


def _place(this: SchedulingPass, ask: Ask) -> Option | None:
    """The option at which an instance is started now; None if it fits nowhere."""
    if not this.state.policy.enforce:
        return widest(this.state, ask.options)
    fits = this.state.ledger.fits  # this look may be out of date
    return next((o for o in this.reach.fitting(ask) if this.spares(o.demand) and fits(o.demand)), None)


def _make_room_for(this: SchedulingPass, ticket: Ticket, spills: float = inf) -> bool:
    """Evict idle instances for a ticket, if that suffices, and then less than ``spills`` of it runs in RAM."""
    if not this.plans:
        return False
    within = (o for o in this.reach.options(ticket.ask) if o.spills < spills and this.spares(o.demand))
    options = list(islice(within, WEIGHED))
    if not options:
        return False
    this.plans -= 1
    if plan := this.planner.best(this.state, this.reach, options):
        ticket.room_being_made = True
        why = f"the cheapest way to make room for {ticket.id} ({ticket.ask.profile})"
        make_room(this.state, plan.leaving, Cause.EVICTED, why)
        this.swaps |= {i.id: taken_over(this.state, i.swap, ticket) for i in plan.leaving if i.swap and i.live}
        this.spend(plan.option.demand)
        if this.head is None:
            this.promise(plan)
            this.promised = ticket if any(not i.live for i in plan.leaving) else None
    return ticket.room_being_made


def _swap_for(this: SchedulingPass, ticket: Ticket) -> None:
    """Plan swaps for a ticket: for the head at every look, for others once a second.

    A ticket that will have a slot sooner than bytes waits for that, and is no head.
    """
    state, ask = this.state, ticket.ask
    if not ticket.patient:
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
