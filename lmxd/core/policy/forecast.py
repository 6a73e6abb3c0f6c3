"""Forecast: when bytes and slots are expected to come free, and so when each waiting ticket is served.

In: the state, and the learned times of loads and leases. Out: a ``Date`` for each ticket. The rule: tickets are dated
in order of the queue, and each date counts on the bytes that earlier tickets will take and give back.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from lmxd.core.books.parking import own_bytes
from lmxd.core.books.state import State
from lmxd.core.holders import Lease, Ticket
from lmxd.core.instances import Instance
from lmxd.core.policy.dates import NEVER, Date, ExpectedStart
from lmxd.core.policy.eviction import evictable, kept
from lmxd.core.policy.limit import has_all_instances
from lmxd.core.policy.measuring import undisturbed_from
from lmxd.core.policy.quantum import (
    Claim,
    claim,
    closes_at,
    load_seconds,
    seconds_to_ready,
)
from lmxd.core.words import Ask, DeviceId, InstanceId, Kind, Option, Phase, TicketId

SURE_OF = 8
"""The tickets in front that are dated one by one. The errors add up: those behind are dated by the mean pace."""

_ALL_DATED = 4
"""The most options of a ticket that are all dated. A date of each of 1,000 devices would make a tick too long."""
_DATED = 2
"""The number of options that are dated if a ticket has more."""
_ROOMIEST = 16
"""The number of devices, those with the most bytes in reach, among which these options are chosen."""


class Outlook(NamedTuple):
    """The expectations about one instance, without regard to who waits for its bytes.

    ``done``: the expected end of its present leases. ``going``: seconds from then until its bytes are free. ``claim``:
    its right to go on serving, None if no further requests are expected. ``hold``: seconds that a lease on it usually
    lasts.
    """

    done: float
    going: float
    claim: Claim | None = None
    hold: float = 0.0


class Forecast:
    """The expectations about all instances, and about the tickets dated so far."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._outlooks: dict[InstanceId, Outlook] = {}
        self._taken: dict[DeviceId, list[tuple[float, int, InstanceId | TicketId]]] = {}
        """For the tickets dated so far: when each takes bytes of a device (negative), and when it gives them back."""
        self._shared: dict[InstanceId, list[tuple[float, int]]] = {}
        """The same for slots of instances."""
        self._starts: dict[Kind, list[ExpectedStart]] = {}
        self._roomiest: list[DeviceId] | None = None

    def date(self, ticket: Ticket, without: Set[DeviceId] = frozenset()) -> Date:
        """The date of ``ticket``, after those dated before it. Options on the devices ``without`` are left out."""
        ask, best = ticket.ask, NEVER
        for option in () if has_all_instances(self._state, ticket) else self._nearest(ask, without):
            found = self._by_option(option, ticket)
            if found.at < best.at:
                best = found
        return min(best, self.slot(ask), key=lambda date: date.at)

    def slot(self, ask: Ask) -> Date:
        """The date at which a running instance has a slot for ``ask``."""
        return min((self._by_sharing(i, ask) for i in self._state.able(ask)), key=lambda date: date.at, default=NEVER)

    def _nearest(self, ask: Ask, without: Set[DeviceId]) -> Sequence[Option]:
        """The options to date. Of many, only some on the devices with the most bytes in reach: they are the soonest."""
        if len(ask.options) <= _ALL_DATED:
            return [o for o in ask.options if not without & o.demand.keys()] if without else ask.options
        if self._roomiest is None:
            self._roomiest = self._state.reach.roomiest(_ROOMIEST)
        near = [ask.singles[device] for device in self._roomiest if device in ask.singles and device not in without]
        several = [o for o in ask.others[:_DATED] if not without & o.demand.keys()]
        return [*(near or [o for d, o in ask.singles.items() if d not in without])[:_DATED], *several]

    def expect(self, ticket: Ticket, date: Date) -> float:
        """Count on ``ticket`` being served at ``date``. Returns the time at which its lease is expected."""
        ask, expectations = ticket.ask, self._state.expectations
        if date.option is None:
            ends = date.at + expectations.hold(ask.profile, ask.idle_timeout)
            for instance in self._state.among(date.awaits):
                self._shared.setdefault(instance.id, []).extend([(date.at, -ask.slots), (ends, ask.slots)])
            return date.at
        granted = date.at + load_seconds(self._state, ask)
        ends = granted + expectations.hold(ask.profile, ask.idle_timeout)
        for device, need in date.option.demand.items():
            self._taken.setdefault(device, []).extend([(date.at, -need, ticket.id), (ends, need, ticket.id)])
        if ask.share:
            held = [(granted, -ask.slots), (ends, ask.slots)]
            self._starts.setdefault(ask.kind, []).append(ExpectedStart(ask, date, granted, ends, ticket.id, held))
        return granted

    def join(self, ticket: Ticket, date: Date) -> tuple[Date, float] | None:
        """The date of an instance that will be started for an earlier ticket, and the time at which it has a slot.

        None if there is none, or if the ticket's own ``date`` is sooner.
        """
        ask, expectations = ticket.ask, self._state.expectations
        starts = self._starts.get(ask.kind, [])
        able = [s for s in starts if ask.share and s.ask.context >= ask.context and s.ask.spread >= ask.slots]
        if not able:
            return None
        at, start = min(((s.slot_at(ask.slots), s) for s in able), key=lambda found: found[0])
        launch = 0.0 if date.option is None else load_seconds(self._state, ask)
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
        """The time at which an instance is expected to be without leases, if ``ticket`` waits for its bytes."""
        outlook = self._outlook(instance)
        if outlook.claim is None:
            return outlook.done
        return max(outlook.done, closes_at(self._state, outlook.claim, ticket) + outlook.hold)

    def closes_at(self, instance: Instance, ticket: Ticket) -> float:
        """The time at which an instance may be closed for ``ticket``, even if no more requests for it are expected."""
        return closes_at(self._state, self._outlook(instance).claim or claim(self._state, instance), ticket)

    def _outlook(self, instance: Instance) -> Outlook:
        found = self._outlooks.get(instance.id)
        if found is None:
            found = self._outlooks[instance.id] = self._look(instance)
        return found

    def _look(self, instance: Instance) -> Outlook:
        state, ask = self._state, instance.ask
        going = state.expectations.going(ask.profile)
        sleeps = instance.phase is Phase.ASLEEP
        if not instance.live and not sleeps:
            stopped = instance.stopped_at or state.now
            return Outlook(max(state.now, stopped + going), 0.0)
        if ask.pin or (not sleeps and kept(state, instance)):
            return Outlook(inf, going)
        if instance.vacant:
            return Outlook(self._leaves_at(instance), going)
        ends = [self._lease_ends(instance, lease) for lease in instance.leases.values()]
        ends += [self._ticket_ends(instance, each) for each in instance.tickets.values()]
        if instance.yielding is not None:
            return Outlook(min(max(ends), max(instance.yielding.by, state.now)), going)
        if not self._goes_on(instance):
            return Outlook(max(ends), going)
        return Outlook(max(ends), going, claim(state, instance), state.expectations.held_for(ask.profile))

    def _leaves_at(self, instance: Instance) -> float:
        """The time from which a vacant instance may be ended."""
        if evictable(self._state, instance):
            return self._state.now
        left = instance.stays_until(self._state.policy.grace) if instance.busy else instance.evictable_from
        return max(left, undisturbed_from(self._state, instance))

    def _goes_on(self, instance: Instance) -> bool:
        """Whether more requests for the instance are expected than those that have it now."""
        if instance.closed or instance.ask.external:
            return False
        state = self._state
        return instance.ask.kind in state.queue.kinds or state.expectations.is_prompt(instance.ask.profile)

    def _lease_ends(self, instance: Instance, lease: Lease) -> float:
        """The expected end: after the usual time; an older lease lasts as much longer as it is older, unless idleness
        ends it.
        """
        state, ask = self._state, instance.ask
        idle = max(instance.ends_unused(lease), state.now)
        if ask.external or instance.unused(state.now):
            return idle
        usual = state.expectations.hold(ask.profile, ask.idle_timeout)
        end = max(lease.granted_at + usual, state.now + (state.now - lease.granted_at - usual))
        return end if instance.busy else min(end, idle)

    def _ticket_ends(self, instance: Instance, ticket: Ticket) -> float:
        expectations, ask = self._state.expectations, ticket.ask
        ready = instance.loaded_at(seconds_to_ready(self._state, instance), self._state.now)
        return max(ready, self._state.now) + expectations.hold(ask.profile, ask.idle_timeout)

    def _by_sharing(self, instance: Instance, ask: Ask) -> Date:
        """The date at which enough slots of an instance are free."""
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
        """The date at which enough bytes are free on all devices of an option."""
        at, awaits, extra = self._state.now, [], {}
        for device, need in option.demand.items():
            when, free, ended = self._enough(device, need, ticket)
            if free < need:
                return NEVER
            at, extra[device] = max(at, when), free - need
            awaits += ended
        return Date(at=at, option=option, awaits=tuple(dict.fromkeys(awaits)), extra=extra)

    def _enough(self, device: DeviceId, need: int, ticket: Ticket) -> tuple[float, int, list[InstanceId | TicketId]]:
        """When ``need`` bytes are free on a device, how many are free then, and which instances have ended by then."""
        account = self._state.ledger.accounts.get(device)
        if account is None or account.unavailable is not None:
            return inf, -1, []
        at, free, ended = self._state.now, account.headroom + own_bytes(self._state, ticket, device), []
        for when, size, name in self._coming(device, ticket):
            if when == inf or (free >= need and when > at):
                break
            at, free = max(at, when), free + size
            ended.append(name)
        return at, free, ended

    def _coming(self, device: DeviceId, ticket: Ticket) -> list[tuple[float, int, InstanceId | TicketId]]:
        """The bytes that come free on a device, or are taken (negative), with time and name, in order of time."""
        account = self._state.ledger.accounts[device]
        instances, coming = self._state.instances, []
        own = None if ticket.moves is None or ticket.parked else self._state.leases[ticket.moves].instance
        for name, reservation in account.reservations.items():
            if name == own:
                continue  # it ends for this ticket alone, or stays until the lease has moved
            instance = instances[name]
            end = self.free_at(instance, ticket) + self._outlook(instance).going
            idle = instance.live or instance.phase is Phase.ASLEEP
            size = reservation.charge if idle else instance.gives_back(device, reservation.charge)
            coming.append((end, size, name))
        return sorted(coming + self._taken.get(device, []))


@dataclass(frozen=True, slots=True)
class Dated:
    """A waiting ticket, its date, and the seconds until its lease is expected (None: unknown)."""

    ticket: Ticket
    date: Date
    eta: float | None


def dated(state: State, most: int = SURE_OF, forecast: Forecast | None = None) -> list[Dated]:
    """The first ``most`` tickets of the queue with their dates, in order. ``forecast`` counts on them afterwards."""
    forecast, found = forecast or Forecast(state), []
    for ticket in state.queue.some(0, most):
        date = forecast.date(ticket)
        date, at = forecast.join(ticket, date) or (date, inf if date.at == inf else forecast.expect(ticket, date))
        found.append(Dated(ticket, date, None if at == inf else at - state.now))
    return found


def dated_far(state: State, forecast: Forecast, ticket: Ticket, position: int, between: float | None) -> Dated:
    """The date of a ticket behind the first few: that of a slot which a running instance will have for it.

    ``forecast`` counts on it afterwards. If there is none, the time follows from the pace, ``between`` two leases.
    """
    date = forecast.slot(ticket.ask)
    if date.at == inf:
        return Dated(ticket, NEVER, None if between is None else between * position)
    return Dated(ticket, date, forecast.expect(ticket, date) - state.now)


def pace(front: Sequence[Dated]) -> float | None:
    """Seconds from one lease to the next among the tickets in front: the estimate for those behind them."""
    known = [each.eta for each in front if each.eta is not None]
    return max(known) / len(known) if known else None


def starting(state: State, ticket: Ticket) -> float | None:
    """Seconds until the instance of a ticket is expected to be ready; None if it waits for other loads to end."""
    assert ticket.instance is not None
    instance = state.instances[ticket.instance]
    if instance.ready_at is not None:
        return 0.0
    seconds = seconds_to_ready(state, instance)
    return None if instance.postponed else max(0.0, instance.loaded_at(seconds, state.now) - state.now)
