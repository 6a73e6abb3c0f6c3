"""Dates of those who wait, and of what is to be started for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from lmxd.core.words import Ask, DeviceId, InstanceId, Option, TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class Date:
    """When a ticket is expected to be served, and how: at ``option``, or by slots that come free.

    ``awaits``: the instances that must end or have a slot by then. ``extra``: bytes of each device
    that will not be needed for it even so.
    """

    at: float
    option: Option | None = None
    awaits: tuple[InstanceId | TicketId, ...] = ()
    extra: dict[DeviceId, int] = field(default_factory=dict)

    @property
    def by_slot(self) -> bool:
        """Whether a slot of what runs is awaited, and no bytes."""
        return self.option is None and bool(self.awaits)


NEVER = Date(at=inf)


@dataclass(slots=True)
class ExpectedStart:
    """An instance that is expected to be started for a ticket dated before, at ``date``; ready ``at``.

    ``ends``: when the last of those is done who have it by then. ``held``: when its slots are taken, and given back.
    """

    ask: Ask
    date: Date
    at: float
    ends: float
    ticket: TicketId
    held: list[tuple[float, int]]

    def slot_at(self, slots: int) -> float:
        """When so many slots of it are free."""
        at, free = self.at, self.ask.spread
        for when, change in sorted(self.held):
            if free >= slots and when > at:
                break
            at, free = max(at, when), free + change
        return at
