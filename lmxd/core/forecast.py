"""When bytes and slots are expected to come free: dates for those who wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf

from lmxd.core.eviction import evictable, kept
from lmxd.core.instances import Instance, Lease, Ticket
from lmxd.core.quantum import closes_at, price
from lmxd.core.state import State
from lmxd.core.words import Ask, DeviceId, Group, InstanceId, Option, Turn

SURE_OF = 32
"""How many of those in front are dated one by one; who stands behind them is dated by their pace."""

_DATED = 4
"""Of how many options of one ticket."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Date:
    """When a ticket is expected to be served, and how: at ``option``, or by slots that come free.

    ``awaits``: the instances that must end or have a slot by then. ``extra``: bytes of each device
    that will not be needed for it even so.
    """

    at: float
    option: Option | None = None
    awaits: tuple[InstanceId, ...] = ()
    extra: dict[DeviceId, int] = field(default_factory=dict)


NEVER = Date(at=inf)


class Forecast:
    """What is expected of the instances there are, and of the tickets dated so far."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ends: dict[tuple[InstanceId, Group], float] = {}
        self._taken: dict[DeviceId, list[tuple[float, int, InstanceId]]] = {}
        """Of the tickets dated so far: when each takes bytes (negative), and gives them back."""

    def date(self, ticket: Ticket) -> Date:
        """When ``ticket`` is expected to be served, once those dated before it are."""
        ask = ticket.ask
        dates = [self._by_option(option, ticket) for option in self._nearest(ask)]
        dates += [self._by_sharing(i, ask) for i in self._state.kin.get(ask.kind, {}).values() if i.could_serve(ask)]
        return min(dates, key=lambda d: d.at, default=NEVER)

    def _nearest(self, ask: Ask) -> Sequence[Option]:
        """Of many options those that lack least: any of them makes a date that can be kept."""
        if len(ask.options) <= _DATED:
            return ask.options
        accounts = self._state.ledger.accounts
        lacking = [
            (n - accounts[d].headroom, d) for d, o in ask.singles.items() if d in accounts for n in o.demand.values()
        ]
        return [ask.singles[device] for _, device in nsmallest(_DATED, lacking)] + list(ask.others[:_DATED])

    def expect(self, ticket: Ticket, date: Date) -> float:
        """Take note that ``ticket`` is served at its date; returns when its lease is expected."""
        ask, expectations = ticket.ask, self._state.expectations
        if date.option is None:
            return date.at
        granted = date.at + expectations.launch(ask.profile, date.option.size)
        ends = granted + expectations.holds.get(ask.profile, ask.idle_timeout)
        for device, need in date.option.demand.items():
            self._taken.setdefault(device, []).extend([(date.at, -need, ticket.id), (ends, need, ticket.id)])
        return granted

    def ends(self, instance: Instance, ticket: Ticket) -> float:
        """When its bytes are expected to be free, if ``ticket`` wants them."""
        key = instance.id, ticket.ask.group
        if key not in self._ends:
            self._ends[key] = self._end(instance, ticket)
        return self._ends[key]

    def _end(self, instance: Instance, ticket: Ticket) -> float:
        going = self._state.expectations.going(instance.ask.profile)
        if not instance.live:
            stopped = instance.stopped_at or self._state.now
            return max(self._state.now, stopped + going)
        return self.free_at(instance, ticket) + going

    def free_at(self, instance: Instance, ticket: Ticket) -> float:
        """When nobody is expected to have it any more, if ``ticket`` wants its bytes."""
        state = self._state
        if instance.vacant:
            if evictable(state, instance):
                return state.now
            if instance.ask.pin or kept(state, instance):
                return inf
            return max(state.now, instance.stays_until)
        if instance.ask.pin:
            return inf
        leases = [self._lease_ends(instance, lease) for lease in instance.leases.values()]
        leases += [self._ticket_ends(instance, each) for each in instance.tickets.values()]
        end = max(leases)
        if instance.yielding is not None:
            end = min(end, max(instance.yielding.by, state.now))
        elif self._goes_on(instance):
            closes = closes_at(state, instance, ticket)
            end = max(end, closes + state.expectations.held_for(instance.ask.profile))
        return end

    def _goes_on(self, instance: Instance) -> bool:
        """Whether more is to come for it than those that have it now."""
        if instance.closed or instance.ask.external:
            return False
        state = self._state
        return instance.ask.kind in state.queue.kinds or state.expectations.is_prompt(instance.ask.profile)

    def _lease_ends(self, instance: Instance, lease: Lease) -> float:
        """After its profile's usual time; one that is older, in as long again; but no later than idleness ends it."""
        state, ask = self._state, instance.ask
        idle = inf if ask.pin or ask.external else max(instance.active_at + ask.idle_timeout, state.now)
        usual = state.expectations.holds.get(ask.profile)
        if usual is None:
            return idle
        end = max(lease.granted_at + usual, state.now + (state.now - lease.granted_at - usual))
        return end if instance.busy else min(end, idle)

    def _ticket_ends(self, instance: Instance, ticket: Ticket) -> float:
        expectations, ask = self._state.expectations, ticket.ask
        ready = instance.started_at + expectations.launch(ask.profile, instance.option.size)
        return max(ready, self._state.now) + expectations.holds.get(ask.profile, ask.idle_timeout)

    def _by_sharing(self, instance: Instance, ask: Ask) -> Date:
        """When so many of its slots are free as are wanted."""
        if instance.serves(ask):
            return Date(at=self._state.now)
        free, together = instance.free_slots, ask.share and instance.ask.share
        held = [(self._lease_ends(instance, x), x.slots) for x in instance.leases.values()]
        held += [(self._ticket_ends(instance, t), t.ask.slots) for t in instance.tickets.values()]
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
        instances = self._state.instances
        coming = [(self.ends(instances[i], ticket), r.charge, i) for i, r in account.reservations.items()]
        return sorted(coming + self._taken.get(device, []))


def turns(state: State, ticket: Ticket, date: Date) -> tuple[Turn, ...]:
    """Of the instances that a date awaits those that others use, and for how long they go on."""
    awaited = [state.instances[name] for name in date.awaits if name in state.instances]
    return tuple(
        Turn(
            instance=i.id,
            closes_in=(closes_at(state, i, ticket) if i.swap is None else i.swap.closes_at) - state.now,
            price=price(state, i, ticket.ask),
        )
        for i in awaited
        if date.option is not None and i.live and not i.vacant and not i.ask.external
    )


def dates(state: State, tickets: list[Ticket]) -> list[float | None]:
    """When each of ``tickets``, in their order, expects its lease: seconds from now; None where nothing can be said."""
    forecast, found = Forecast(state), []
    for ticket in tickets[:SURE_OF]:
        date = forecast.date(ticket)
        found.append(None if date.at == inf else forecast.expect(ticket, date) - state.now)
    known = [eta for eta in found if eta is not None]
    pace = max(known) / len(known) if known else None
    behind = range(len(found), len(tickets))
    return [*found, *(None if pace is None else pace * (n + 1) for n in behind)]


def starting(state: State, ticket: Ticket) -> float | None:
    """Seconds until the instance that a ticket is attached to is expected to be ready."""
    instance = state.instances[ticket.instance or ""]
    if instance.ready_at is not None:
        return 0.0
    seconds = state.expectations.launch(instance.ask.profile, instance.option.size)
    return max(0.0, instance.started_at + seconds - state.now)
