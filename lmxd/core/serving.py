"""Who is served, in order of the queue, and who may go before somebody that cannot be served yet.

The head of the queue has a date: when enough is expected to be free for it. Those behind it are
served before that (backfill) only with what will not be needed at that date.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from math import inf
from typing import Final

from lmxd.core import refusals
from lmxd.core.decisions import CheckActivity
from lmxd.core.eviction import Plan, best_plan, idle
from lmxd.core.expectations import GOING
from lmxd.core.forecast import Date, Forecast
from lmxd.core.instances import Instance, Ticket
from lmxd.core.placement import Reach, widest
from lmxd.core.record import refuse, stop
from lmxd.core.starts import attach, start
from lmxd.core.state import State
from lmxd.core.words import Ask, Cause, Demand, Option, Phase

LOOKAHEAD: Final = 64
"""How many behind the head are looked at again whenever something comes free. A newcomer always is."""

WEIGHED: Final = 16
"""Of how many ways to make room for one of them the cheapest is taken."""
PLANS: Final = 4
"""For how many of them room is planned to be made at a time."""


class Pass:
    """One look at the queue: what could be had of the devices, and the date of the head that is not to be put off."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.head: Ticket | None = None
        self.reach = Reach(state, idle(state))
        self.plans = PLANS
        self.hopeless = inf
        """Bytes that were not to be had, looking at all devices."""
        self._date: Date | None = None

    @property
    def date(self) -> Date | None:
        """When the head is expected to be served, less what was given away of what it will not need."""
        if self.head is not None and self._date is None:
            self._date = Forecast(self.state).date(self.head.ask)
        return self._date

    def spares(self, demand: Demand) -> bool:
        """Whether the head does not need these bytes at its date. One that waits for others than us has none."""
        if self.date is None or self.date.at == inf:
            return True
        return all(need <= self.date.extra[device] for device, need in demand.items() if device in self.date.extra)

    def spend(self, demand: Demand) -> None:
        """They are promised to somebody, or meant for somebody."""
        self.reach.commit(demand)
        self.give_away(demand)

    def give_away(self, demand: Demand) -> None:
        """They are not the head's any more."""
        if self.date is not None:
            for device in self.date.extra.keys() & demand.keys():
                self.date.extra[device] -= demand[device]

    def promise(self, plan: Plan) -> None:
        """The head is served when the instances of a plan are gone: what is over by then is what ``reach`` says."""
        most, option = self.reach.most, plan.option
        extra = {device: most[device] for device in option.demand}
        awaits = tuple(i.id for i in plan.leaving)
        self._date = Date(at=self.state.now + GOING, option=option, awaits=awaits, extra=extra)


def serve(state: State) -> Ticket | None:
    """Serve the queue in order. Returns its head, if that could not be served."""
    this = state.look = Pass(state)
    behind = 0
    for ticket in state.queue:
        if behind >= LOOKAHEAD:
            break
        if (state.doubtful and refused(state, ticket)) or state.over_quota(ticket):
            continue  # who is held up by a quota holds up nobody else
        if this.head is None:
            this.head = None if _served(this, ticket) else ticket
        else:
            behind += 1
            _backfilled(this, ticket)
    return this.head


def serve_newcomer(state: State, ticket: Ticket) -> None:
    """The same, where nothing but ``ticket`` has changed, and others stand before it.

    The last look at the queue is still good, less what newcomers took since then. Room is made for it, if at
    all, when its turn to be looked at comes.
    """
    this = state.look
    if this is None or state.over_quota(ticket):
        return
    if this.head is None:  # those before it are held up by a quota
        _served(this, ticket)
    else:
        this.plans = 0
        _backfilled(this, ticket)


def refused(state: State, ticket: Ticket) -> bool:
    """Whether there is an answer, and it is no."""
    if state.draining:
        refuse(state, ticket, refusals.DRAINING)
    elif state.policy.enforce and not any(state.ledger.could_ever_fit(o.demand) for o in ticket.ask.options):
        refuse(state, ticket, refusals.never_fits(state, ticket))
    elif failed := state.backing_off(ticket.ask):
        refuse(state, ticket, refusals.failed_lately(state, failed))
    else:
        return False
    return True


def _backfilled(this: Pass, ticket: Ticket) -> None:
    """Serve ``ticket`` before the head, if that does not put off the head's date."""
    ask = ticket.ask
    anywhere = len(ask.singles) == len(this.state.ledger.accounts)
    hopeless = ask.need > this.reach.largest or (anywhere and ask.need >= this.hopeless)
    if hopeless and ask.kind not in this.state.open:
        ticket.progressing = False
    elif _served(this, ticket):
        this.state.counts["backfilled"] += 1
    elif anywhere and not ticket.progressing:
        this.hopeless = min(this.hopeless, ask.need)


def _served(this: Pass, ticket: Ticket) -> bool:
    """By what runs, by what is free, or not yet: then idle instances are evicted if that helps."""
    state, ask = this.state, ticket.ask
    if instance := _reusable(this, ticket):
        this.reach.keep(instance)
        if this.date is not None and instance.id in this.date.awaits:
            this.give_away(state.ledger.charge(instance.id))
        attach(state, ticket, instance, f"{instance.id} has a free slot, enough context and the same settings")
        return True
    if _has_all_instances(state, ask):
        return False  # it waits for a slot of those that there are
    if option := _place(this, ask):
        where = " and ".join(option.demand)
        ahead = "" if this.head is None else ", ahead of the head of the queue, whom that does not put off"
        why = f"it fits what is free on {where}{ahead}"
        attach(state, ticket, start(state, ask, option, f"for {ticket.id}: {why}"), why)
        this.spend(option.demand)
        return True
    _make_room_for(this, ticket)
    return False


def _has_all_instances(state: State, ask: Ask) -> bool:
    """Whether as many run as it may have of those that could serve it; one of too small a context could not."""
    most = ask.max_instances
    return most is not None and sum(i.could_serve(ask) for i in state.kin.get(ask.kind, {}).values()) >= most


def _place(this: Pass, ask: Ask) -> Option | None:
    """Where it is started now."""
    if not this.state.policy.enforce:
        return widest(this.state, ask.options)
    fits = this.state.ledger.fits  # the look may be of a moment ago
    return next((o for o in this.reach.fitting(ask) if this.spares(o.demand) and fits(o.demand)), None)


def _make_room_for(this: Pass, ticket: Ticket) -> None:
    """Have idle instances end, if that helps; what comes free by that is then meant for this ticket."""
    ticket.progressing = False
    if not this.plans or ticket.ask.need > this.reach.largest:
        return
    within = (option for option in this.reach.options(ticket.ask) if this.spares(option.demand))
    options = list(islice(within, WEIGHED))
    if not options:
        return
    this.plans -= 1
    if plan := best_plan(this.state, this.reach, options):
        ticket.progressing = True
        why = f"the cheapest way to make room for {ticket.id} ({ticket.ask.profile})"
        make_room(this.state, plan.leaving, Cause.EVICTED, why)
        this.spend(plan.option.demand)
        if this.head is None:
            this.promise(plan)


def _reusable(this: Pass, ticket: Ticket) -> Instance | None:
    """A running instance that serves it at no bytes: ready before starting, the snuggest first."""
    kin = this.state.open.get(ticket.ask.kind)
    serving = [i for i in kin.values() if i.serves(ticket.ask)] if kin else []
    if serving and this.date is not None:
        date, charge = this.date, this.state.ledger.charge
        serving = [i for i in serving if i.id not in date.awaits or this.spares(charge(i.id))]
    return min(serving, key=lambda i: (i.phase is not Phase.READY, i.ask.context, i.free_slots), default=None)


def make_room(state: State, leaving: Collection[Instance], cause: Cause, why: str) -> None:
    """End instances together, once every one of them is known to be idle."""
    unsure = [i for i in leaving if not i.known_idle(state.now)]
    for instance in unsure:
        check(state, instance)
    if unsure:
        return
    for instance in leaving:
        if instance.phase is Phase.STARTING:
            stop(state, instance, Cause.UNWANTED, f"nobody wants it any more; {why}")
        else:
            state.evicted_at[instance.ask.kind] = state.now
            stop(state, instance, cause, why)


def check(state: State, instance: Instance) -> None:
    """Have its engine asked what it is doing, unless that is under way."""
    if not instance.checking:
        instance.checking = True
        state.outbox.append(CheckActivity(instance=instance.id))
