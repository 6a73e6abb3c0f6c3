"""When bytes and slots are expected to come free: dates for those who wait."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from lmxd.core.books.state import State
from lmxd.core.instances import Instance, Lease, Ticket
from lmxd.core.policy.dates import NEVER, Date, ExpectedStart
from lmxd.core.policy.eviction import evictable, kept
from lmxd.core.policy.quantum import Claim, claim, is_fair, load_seconds, price, serves_until
from lmxd.core.words import Ask, DeviceId, InstanceId, Kind, Option, Turn

SURE_OF = 8
"""How many of those in front are dated one by one; who stands behind them is dated by their pace."""

_ALL_DATED = 4
"""Up to so many options of a ticket all are dated."""
_DATED = 2
"""Of more, so many are."""
_ROOMIEST = 16
"""Among so many devices, where most could be had, they are looked for."""


class Outlook(NamedTuple):
    """What is expected of one instance, whoever wants its bytes.

    ``done``: when those are done who have it now. ``going``: seconds from then until its bytes are free. ``claim``:
    what keeps it from making way, None if nobody else comes. ``hold``: seconds that a lease on it usually lasts.
    """

    done: float
    going: float
    claim: Claim | None = None
    hold: float = 0.0


class Forecast:
    """What is expected of the instances there are, and of the tickets dated so far."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._outlooks: dict[InstanceId, Outlook] = {}
        self._taken: dict[DeviceId, list[tuple[float, int, InstanceId]]] = {}
        """Of the tickets dated so far: when each takes bytes (negative), and gives them back."""
        self._shared: dict[InstanceId, list[tuple[float, int]]] = {}
        """Likewise of the slots of instances."""
        self._starts: dict[Kind, list[ExpectedStart]] = {}
        self._roomiest: list[DeviceId] | None = None

    def date(self, ticket: Ticket, without: Set[DeviceId] = frozenset()) -> Date:
        """When ``ticket`` is expected to be served, once those dated before it are; ``without`` these devices."""
        ask, best = ticket.ask, NEVER
        for option in () if self._state.has_all_instances(ask) else self._nearest(ask, without):
            found = self._by_option(option, ticket)
            if found.at < best.at:
                best = found
        return min(best, self.slot(ask), key=lambda date: date.at)

    def slot(self, ask: Ask) -> Date:
        """When an instance that runs is expected to have a slot for ``ask``."""
        able = [i for i in self._state.kin.get(ask.kind, {}).values() if i.could_serve(ask)]
        return min((self._by_sharing(i, ask) for i in able), key=lambda date: date.at, default=NEVER)

    def _nearest(self, ask: Ask, without: Set[DeviceId]) -> Sequence[Option]:
        """Of many options those where most could be had: any of them makes a date that can be kept."""
        if len(ask.options) <= _ALL_DATED:
            return [o for o in ask.options if not without & o.demand.keys()] if without else ask.options
        if self._roomiest is None:
            self._roomiest = self._state.reach.roomiest(_ROOMIEST)
        near = [ask.singles[device] for device in self._roomiest if device in ask.singles and device not in without]
        several = [o for o in ask.others[:_DATED] if not without & o.demand.keys()]
        return [*(near or [o for d, o in ask.singles.items() if d not in without])[:_DATED], *several]

    def expect(self, ticket: Ticket, date: Date) -> float:
        """Take note that ``ticket`` is served at its date; returns when its lease is expected."""
        ask, expectations = ticket.ask, self._state.expectations
        if date.option is None:
            ends = date.at + expectations.hold(ask.profile, ask.idle_timeout)
            for name in date.awaits:
                self._shared.setdefault(name, []).extend([(date.at, -ask.slots), (ends, ask.slots)])
            return date.at
        granted = date.at + expectations.launch(ask.profile, date.option.size)
        ends = granted + expectations.hold(ask.profile, ask.idle_timeout)
        for device, need in date.option.demand.items():
            self._taken.setdefault(device, []).extend([(date.at, -need, ticket.id), (ends, need, ticket.id)])
        if ask.share:
            held = [(granted, -ask.slots), (ends, ask.slots)]
            self._starts.setdefault(ask.kind, []).append(ExpectedStart(ask, date, granted, ends, ticket.id, held))
        return granted

    def join(self, ticket: Ticket, date: Date) -> tuple[Date, float] | None:
        """The date of an instance that is to be started for somebody before it, and when it has a slot of that.

        None if there is none, or ``date``, which it would have by itself, is sooner.
        """
        ask, expectations = ticket.ask, self._state.expectations
        starts = self._starts.get(ask.kind, [])
        able = [s for s in starts if ask.share and s.ask.context >= ask.context and s.ask.spread >= ask.slots]
        if not able:
            return None
        at, start = min(((s.slot_at(ask.slots), s) for s in able), key=lambda found: found[0])
        launch = 0.0 if date.option is None else expectations.launch(ask.profile, date.option.size)
        if at > date.at + launch and (ask.max_instances is None or len(able) < ask.max_instances):
            return None
        ends = at + expectations.hold(ask.profile, ask.idle_timeout)
        start.held += [(at, -ask.slots), (ends, ask.slots)]
        if ends > start.ends:
            assert start.date.option is not None
            for device, need in start.date.option.demand.items():
                taken = self._taken[device]
                taken[taken.index((start.ends, need, start.ticket))] = (ends, need, start.ticket)
            start.ends = ends
        return start.date, at

    def free_at(self, instance: Instance, ticket: Ticket) -> float:
        """When nobody is expected to have it any more, if ``ticket`` wants its bytes."""
        outlook = self._outlook(instance)
        if outlook.claim is None:
            return outlook.done
        return max(outlook.done, self._closes_at(outlook.claim, ticket) + outlook.hold)

    def closes_at(self, instance: Instance, ticket: Ticket) -> float:
        """When it may be closed for ``ticket``, whether or not somebody else is expected to come for it."""
        return self._closes_at(self._outlook(instance).claim or claim(self._state, instance), ticket)

    def _closes_at(self, claim: Claim, ticket: Ticket) -> float:
        state = self._state
        return claim.lasts(state.now, ticket, load_seconds(state, ticket.ask), state.policy.quantum_loads)

    def _outlook(self, instance: Instance) -> Outlook:
        found = self._outlooks.get(instance.id)
        if found is None:
            found = self._outlooks[instance.id] = self._look(instance)
        return found

    def _look(self, instance: Instance) -> Outlook:
        state, ask = self._state, instance.ask
        going = state.expectations.going(ask.profile)
        if not instance.live:
            stopped = instance.stopped_at or state.now
            return Outlook(max(state.now, stopped + going), 0.0)
        if ask.pin or kept(state, instance):
            return Outlook(inf, going)
        if instance.vacant:
            return Outlook(state.now if evictable(state, instance) else max(state.now, instance.stays_until), going)
        ends = [self._lease_ends(instance, lease) for lease in instance.leases.values()]
        ends += [self._ticket_ends(instance, each) for each in instance.tickets.values()]
        if instance.yielding is not None:
            return Outlook(min(max(ends), max(instance.yielding.by, state.now)), going)
        if not self._goes_on(instance):
            return Outlook(max(ends), going)
        return Outlook(max(ends), going, claim(state, instance), state.expectations.held_for(ask.profile))

    def _goes_on(self, instance: Instance) -> bool:
        """Whether more is to come for it than those that have it now."""
        if instance.closed or instance.ask.external:
            return False
        state = self._state
        return instance.ask.kind in state.queue.kinds or state.expectations.is_prompt(instance.ask.profile)

    def _lease_ends(self, instance: Instance, lease: Lease) -> float:
        """After its profile's usual time; one that is older, in as long again; but no later than idleness ends it."""
        state, ask = self._state, instance.ask
        idle = max(instance.ends_unused(lease), state.now)
        if ask.external or instance.unused(state.now):
            return idle
        usual = state.expectations.hold(ask.profile, ask.idle_timeout)
        end = max(lease.granted_at + usual, state.now + (state.now - lease.granted_at - usual))
        return end if instance.busy else min(end, idle)

    def _ticket_ends(self, instance: Instance, ticket: Ticket) -> float:
        expectations, ask = self._state.expectations, ticket.ask
        ready = instance.loaded_at(expectations.launch(ask.profile, instance.option.size), self._state.now)
        return max(ready, self._state.now) + expectations.hold(ask.profile, ask.idle_timeout)

    def _by_sharing(self, instance: Instance, ask: Ask) -> Date:
        """When so many of its slots are free as are wanted."""
        if instance.serves(ask):
            return Date(at=self._state.now)
        free, together = instance.free_slots, ask.share and instance.shared
        held = [(self._lease_ends(instance, x), x.slots) for x in instance.leases.values()]
        held += [(self._ticket_ends(instance, t), t.ask.slots) for t in instance.tickets.values()]
        held += self._shared.get(instance.id, [])
        held.sort()
        for at, slots in held:
            free += slots
            if free >= (ask.slots if together else instance.ask.spread):
                return Date(at=at, awaits=(instance.id,))
        return NEVER

    def _by_option(self, option: Option, ticket: Ticket) -> Date:
        """When enough bytes are free on all devices of an option."""
        at, awaits, extra = self._state.now, [], {}
        for device, need in option.demand.items():
            when, free, ended = self._enough(device, need, ticket)
            if free < need:
                return NEVER
            at, extra[device] = max(at, when), free - need
            awaits += ended
        return Date(at=at, option=option, awaits=tuple(dict.fromkeys(awaits)), extra=extra)

    def _enough(self, device: DeviceId, need: int, ticket: Ticket) -> tuple[float, int, list[InstanceId]]:
        """(when, bytes that are free then, the instances that ended by then): one by one, as they are expected to."""
        account = self._state.ledger.accounts.get(device)
        if account is None or account.unavailable is not None:
            return inf, -1, []
        at, free, ended = self._state.now, account.headroom, []
        for when, size, name in self._coming(device, ticket):
            if when == inf or (free >= need and when > at):
                break
            at, free = max(at, when), free + size
            ended.append(name)
        return at, free, ended

    def _coming(self, device: DeviceId, ticket: Ticket) -> list[tuple[float, int, InstanceId]]:
        """What each instance, and each ticket dated before, gives or takes on a device, in order of time."""
        account = self._state.ledger.accounts[device]
        instances, coming = self._state.instances, []
        for name, reservation in account.reservations.items():
            instance = instances[name]
            end = self.free_at(instance, ticket) + self._outlook(instance).going
            coming.append((end, reservation.charge, name))
        return sorted(coming + self._taken.get(device, []))


def turns(state: State, ticket: Ticket, date: Date) -> tuple[Turn, ...]:
    """Of the instances that a date awaits those that others use, and for how long they go on."""
    awaited = [state.instances[name] for name in date.awaits if name in state.instances]
    return tuple(
        Turn(
            instance=i.id,
            closes_in=serves_until(state, i, ticket) - state.now,
            price=price(state, i, ticket.ask),
            unused=i.unused(state.now),
            fair=is_fair(state, i, ticket),
        )
        for i in awaited
        if date.option is not None and i.live and not i.vacant and not i.ask.external
    )


@dataclass(frozen=True, slots=True)
class Dated:
    """A waiting ticket, its date, and the seconds from now until its lease is expected, None if nothing can be said."""

    ticket: Ticket
    date: Date
    eta: float | None


def dated(state: State, most: int = SURE_OF, forecast: Forecast | None = None) -> list[Dated]:
    """So many of those in front, one after the other. They are put into ``forecast``, where one is given."""
    forecast, found = forecast or Forecast(state), []
    for ticket in state.queue.some(0, most):
        date = forecast.date(ticket)
        if joined := forecast.join(ticket, date):
            date, at = joined
        else:
            at = inf if date.at == inf else forecast.expect(ticket, date)
        found.append(Dated(ticket, date, None if at == inf else at - state.now))
    return found


def dated_by_slot(state: State, forecast: Forecast, ticket: Ticket) -> Dated | None:
    """The date of one that stands far behind, if what runs has a slot for it before long; it is taken to be served."""
    date = forecast.slot(ticket.ask)
    return None if date is NEVER else Dated(ticket, date, forecast.expect(ticket, date) - state.now)


def pace(front: Sequence[Dated]) -> float | None:
    """Seconds from one lease to the next, as those in front have them: for those who stand behind."""
    known = [each.eta for each in front if each.eta is not None]
    return max(known) / len(known) if known else None


def starting(state: State, ticket: Ticket) -> float | None:
    """Seconds until the instance that a ticket is attached to is expected to be ready.

    None while it stands in line to load: the core does not know how long others load.
    """
    instance = state.instances[ticket.instance or ""]
    if instance.ready_at is not None:
        return 0.0
    seconds = state.expectations.launch(instance.ask.profile, instance.option.size)
    return None if instance.postponed else max(0.0, instance.loaded_at(seconds, state.now) - state.now)
