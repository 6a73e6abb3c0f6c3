"""One look at the queue: the bytes in reach, and those that the head of the queue will need."""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import Final

from lmxd.core.books.state import State
from lmxd.core.holders import Ticket
from lmxd.core.making_way import Swap
from lmxd.core.policy.dates import Date
from lmxd.core.policy.eviction import Candidate, EvictionPlan, Planner, evictable
from lmxd.core.policy.forecast import Forecast
from lmxd.core.policy.shrinking import shrinkable
from lmxd.core.words import Ask, Demand, DeviceId, Group, InstanceId

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

    @cached_property
    def shrinkable(self) -> list[Candidate]:
        """The instances that may shrink. They are looked for once, for most looks need none."""
        return shrinkable(self.state)

    @property
    def swaps_for_others(self) -> bool:
        """Whether swaps may be planned for tickets behind the head: once a second, and for few."""
        return self.state.step.time_passed and self.swap_budget > 0

    def is_hopeless(self, ask: Ask) -> bool:
        """Whether no device could give the bytes, or an ask for no more has just failed on all devices."""
        if ask.need > self.reach.largest:
            return True
        return ask.need >= self.too_large and goes_anywhere(self.state, ask)

    def same_head(self, ticket: Ticket) -> SchedulingPass | None:
        """The last look, if it had the same head, and nothing has changed on the devices of the head's date."""
        last = self.last
        if self.head is not None or last is None or last.head is not ticket or self.state.step.time_passed:
            return None
        if last.date is None or last.date.option is None or self.changed & last.date.option.demand.keys():
            return None
        return last

    def spares(self, demand: Demand, ticket: Ticket) -> bool:
        """Whether an earlier ticket does not need these bytes at its date.

        A growth has them all the same: what its lease has comes free only when it is served.
        """
        extra = self.extra
        if not extra or ticket.moves is not None:
            return True
        return all(need <= extra[device] for device, need in demand.items() if device in extra)

    def spend(self, demand: Demand) -> None:
        """Subtract bytes that a ticket gets now, or will get."""
        self.reach.commit(demand)
        for device in self.extra.keys() & demand.keys():
            self.extra[device] -= demand[device]

    def promise(self, plan: EvictionPlan) -> None:
        """Keep the bytes of an eviction plan for the head. The rest in ``reach`` may be used for backfill."""
        self.extra |= {device: self.reach.most(device) for device in plan.option.demand}


def goes_anywhere(state: State, ask: Ask) -> bool:
    return len(ask.singles) == len(state.ledger.accounts)
