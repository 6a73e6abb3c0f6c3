"""Who is served, in order of the queue, and who may go before somebody that cannot be served yet.

First whoever can be served by what runs, whoever stands before: that costs no bytes, so that no instance with a
free slot stands by while somebody waits for it. Then those who need bytes. The first of them that cannot have them
is the head: it has a date, when enough is expected to be free for it. Those behind it are served before that
(backfill) only with what will not be needed at that date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from math import inf
from typing import Final

from lmxd.core.books.endings import refuse
from lmxd.core.books.state import State
from lmxd.core.instances import Swap, Ticket
from lmxd.core.policy import refusals
from lmxd.core.policy.dates import Date
from lmxd.core.policy.eviction import EvictionPlan, Planner, evictable
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.placement import widest
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.policy.room import make_room
from lmxd.core.policy.sharing import serve_slot, share
from lmxd.core.policy.starts import attach, start
from lmxd.core.policy.swaps import open_again, settle, swaps
from lmxd.core.words import DRAINING, Ask, Cause, Demand, DeviceId, Group, InstanceId, Option

LOOKAHEAD: Final = 64
"""How many groups behind the head are looked at again whenever something comes free. A newcomer always is."""

WEIGHED: Final = 8
"""Of how many ways to make room for one of them the cheapest is taken."""
PLANS: Final = 4
"""For how many of them room is planned to be made at a time."""


class Pass:
    """One look at the queue: what could be had of the devices, and what the head needs at its date."""

    def __init__(self, state: State, last: Pass | None) -> None:
        self.state = state
        self.head: Ticket | None = None
        """The first that waits for bytes."""
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
        """Of the head, if it waits for instances that others use."""
        self.forecast = Forecast(state)
        self.plans = PLANS
        self.swappers = PLANS
        """For how many more of them instances that others use are to make way."""
        self.hopeless = inf
        """Bytes that were not to be had, looking at all devices."""
        self.promised: Ticket | None = None
        """The head, if instances end for it."""
        self.extra: dict[DeviceId, int] = {}
        """Of the devices that somebody waits for: the bytes that will not be needed for that."""
        self.swaps: dict[InstanceId, Swap] = {}
        """The instances that are to make way, and for whom."""
        self.sharing: set[Group] = set()
        """Who will have a slot of what runs sooner than bytes."""

    @property
    def swaps_for_others(self) -> bool:
        """Whether instances may be told to make way for others than the head: once a second, and for few."""
        return self.state.step.time_passed and self.swappers > 0

    def is_hopeless(self, ask: Ask) -> bool:
        """Whether no device could have the bytes, or somebody who wanted no more could not have them of any."""
        if ask.need > self.reach.largest:
            return True
        return ask.need >= self.hopeless and _goes_anywhere(self.state, ask)

    def same_head(self, ticket: Ticket) -> Pass | None:
        """The last look, if it was about the same head, and nothing changed where that is to go."""
        last = self.last
        if self.head is not None or last is None or last.head is not ticket or self.state.step.time_passed:
            return None
        if last.date is None or last.date.option is None or self.changed & last.date.option.demand.keys():
            return None
        return last

    def spares(self, demand: Demand) -> bool:
        """Whether nobody before needs these bytes at its date."""
        extra = self.extra
        return not extra or all(need <= extra[device] for device, need in demand.items() if device in extra)

    def spend(self, demand: Demand) -> None:
        """They are promised to somebody, or meant for somebody."""
        self.reach.commit(demand)
        for device in self.extra.keys() & demand.keys():
            self.extra[device] -= demand[device]

    def promise(self, plan: EvictionPlan) -> None:
        """The head is served when the instances of a plan are gone: what is over by then is what ``reach`` says."""
        self.extra |= {device: self.reach.most(device) for device in plan.option.demand}


class Scheduler:
    """Serves the queue, and keeps its last look at it: newcomers are served by that until bytes or slots come free."""

    def __init__(self) -> None:
        self.last: Pass | None = None

    def serve(self, state: State) -> Ticket | None:
        """Serve the queue in order. Returns its head, if that could not be served."""
        open_again(state)
        share(state, state.open.keys() & state.queue.kinds)
        this = self.last = Pass(state, self.last)
        fronts = state.queue.fronts()
        for front in fronts:
            serve_group(this, front)
            if this.head is not None:
                break
        for front in _within_reach(this, islice(fronts, LOOKAHEAD)):
            serve_group(this, front)
        state.head = this.head
        if this.promised is not None and state.waiting(this.promised.id):
            state.promise(this.promised)
        share(state, settle(state, this.swaps, this.head))
        return this.head

    def serve_newcomer(self, state: State, ticket: Ticket) -> None:
        """Serve ``ticket``, where nothing else has changed, and others stand before it.

        The last look at the queue is still good, less what newcomers took since then. Room is made for it, if at
        all, when its turn to be looked at comes.
        """
        this = self.last
        if this is None or state.over_quota(ticket):
            return
        this.plans = 0 if this.head is not None else this.plans
        _served(this, ticket)
        state.head = this.head


def _within_reach(this: Pass, behind: Iterable[Ticket]) -> Iterator[Ticket]:
    """Those behind the head for whom something might be done: most want neither a slot nor bytes that could be had.

    ``is_hopeless`` would compare with ``largest``, too: it is asked for so many that a call each would be felt.
    """
    state = this.state
    largest, open = this.reach.largest, state.open
    for front in behind:
        ask = front.ask
        if (
            (ask.need > largest or this.is_hopeless(ask))
            and ask.kind not in open
            and not (state.step.refuse_again or this.swaps_for_others)
        ):
            front.progressing = False
            continue
        yield front
        largest = this.reach.largest


def serve_group(this: Pass, front: Ticket) -> None:
    """One after the other, until one of them cannot be served: then none of the rest can."""
    state = this.state
    if state.waiting(front.id) is None:
        return  # it has joined an instance that was started for one before it
    if state.step.refuse_again and refused(state, front):
        for ticket in state.queue.group(front):  # what is true of one is true of all of them
            refused(state, ticket)
        return
    for ticket in state.queue.group(front):
        if ticket.instance is not None or state.over_quota(ticket):
            continue  # who is held up by a quota holds up nobody else
        if not _served(this, ticket):
            return


def refused(state: State, ticket: Ticket) -> bool:
    """Whether there is an answer, and it is no."""
    if state.draining:
        refuse(state, ticket, DRAINING)
    elif state.policy.enforce and not any(state.ledger.could_ever_fit(o.demand) for o in ticket.ask.options):
        refuse(state, ticket, refusals.never_fits(state, ticket))
    elif failed := state.backing_off(ticket.ask):
        refuse(state, ticket, refusals.failed_lately(state, failed))
    else:
        return False
    return True


def _served(this: Pass, ticket: Ticket) -> bool:
    """By what runs, by what is free, or not yet: then room is made if that helps."""
    state, ask = this.state, ticket.ask
    if serve_slot(state, ticket):
        return True
    if state.has_all_instances(ask):
        return False  # it waits for a slot of those that there are
    if state.policy.enforce and this.is_hopeless(ask):
        ticket.progressing = False
    elif ticket.deadline_at is not None and state.now + load_seconds(state, ask) > ticket.deadline_at:
        ticket.progressing = False  # a start would be too late: only a slot of what runs serves it in time
        return False
    elif option := _place(this, ask):
        where = " and ".join(option.demand)
        ahead = "" if this.head is None else ", ahead of the head of the queue, whom that does not put off"
        why = f"it fits what is free on {where}{ahead}"
        attach(state, ticket, start(state, ask, option, f"for {ticket.id}: {why}"), why)
        this.spend(option.demand)
        share(state, ({ask.kind} | open_again(state)) & state.queue.kinds)
        state.counts["backfilled"] += this.head is not None
        return True
    else:
        _make_room_for(this, ticket)
        if not ticket.progressing and _goes_anywhere(state, ask):
            this.hopeless = min(this.hopeless, ask.need)
    if not ticket.progressing:
        _swap_for(this, ticket)
    elif this.head is None:
        this.head = ticket
    return False


def _goes_anywhere(state: State, ask: Ask) -> bool:
    return len(ask.singles) == len(state.ledger.accounts)


def _place(this: Pass, ask: Ask) -> Option | None:
    """Where it is started now."""
    if not this.state.policy.enforce:
        return widest(this.state, ask.options)
    fits = this.state.ledger.fits  # the look may be of a moment ago
    return next((o for o in this.reach.fitting(ask) if this.spares(o.demand) and fits(o.demand)), None)


def _make_room_for(this: Pass, ticket: Ticket) -> None:
    """Have idle instances end, if that helps; what comes free by that is then meant for this ticket."""
    ticket.progressing = False
    if not this.plans:
        return
    within = (option for option in this.reach.options(ticket.ask) if this.spares(option.demand))
    options = list(islice(within, WEIGHED))
    if not options:
        return
    this.plans -= 1
    if plan := this.planner.best(this.state, this.reach, options):
        ticket.progressing = True
        why = f"the cheapest way to make room for {ticket.id} ({ticket.ask.profile})"
        make_room(this.state, plan.leaving, Cause.EVICTED, why)
        this.swaps |= {i.id: _taken_over(this.state, i.swap, ticket) for i in plan.leaving if i.swap and i.live}
        this.spend(plan.option.demand)
        if this.head is None:
            this.promise(plan)
            this.promised = ticket if any(not i.live for i in plan.leaving) else None


def _taken_over(state: State, swap: Swap, ticket: Ticket) -> Swap:
    """What makes way for somebody who does not wait any more makes way for ``ticket``."""
    if state.waiting(swap.ticket) is not None:
        return swap
    return replace(swap, ticket=ticket.id, profile=ticket.ask.profile)


def _swap_for(this: Pass, ticket: Ticket) -> None:
    """Have instances that others use make way, each when its turn is over: for the head, and once a second for others.

    Who will have a slot of what runs sooner than bytes waits for that, and holds up nobody.
    """
    state, ask = this.state, ticket.ask
    if not ticket.patient:
        return
    if (this.head is not None and not this.swaps_for_others) or ask.group in this.sharing:
        return
    if last := this.same_head(ticket):
        this.head, this.date, this.extra = ticket, last.date, last.extra
        this.swaps |= {name: swap for name, swap in last.swaps.items() if swap.ticket == ticket.id}
        return
    date = this.forecast.date(ticket, without=this.extra.keys())
    if (date.option is None and date.at < inf) or any(i.could_serve(ask) for i in state.among(date.awaits)):
        this.sharing.add(ask.group)
        return
    this.swappers -= 1
    if this.head is None:
        this.head, this.date = ticket, date
    if date.option is None:
        return  # it waits for others than us, or for what somebody before it waits for
    this.extra |= date.extra
    this.forecast.expect(ticket, date)
    this.swaps |= swaps(state, this.reach, this.forecast, ticket, date)
