"""Dates: the times at which waiting tickets, and the instances started for them, are expected to be served."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from lmxd.core.words import Ask, DeviceId, InstanceId, Option, TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class Date:
    """The time at which a ticket is expected to be served: at ``option``, or by a slot of a running instance.

    ``awaits``: the instances that must end, or have a free slot, by then. ``extra``: bytes of each device that will be
    free then beyond what the ticket needs; tickets behind it may use these.
    """

    at: float
    option: Option | None = None
    awaits: tuple[InstanceId | TicketId, ...] = ()
    extra: dict[DeviceId, int] = field(default_factory=dict)

    @property
    def by_slot(self) -> bool:
        """Whether the ticket waits for a slot of running instances, and not for bytes."""
        return self.option is None and bool(self.awaits)


NEVER = Date(at=inf)


@dataclass(slots=True)
class ExpectedStart:
    """An instance that is expected to be started for an earlier ticket, at ``date``, and to be ready ``at``.

    ``ends``: the expected end of the last lease on it. ``held``: when its slots are taken (negative) and given back.
    """

    ask: Ask
    date: Date
    at: float
    ends: float
    ticket: TicketId
    held: list[tuple[float, int]]

    def slot_at(self, slots: int) -> float:
        """The time at which ``slots`` of its slots are free."""
        at, free = self.at, self.ask.spread
        for when, change in sorted(self.held):
            if free >= slots and when > at:
                break
            at, free = max(at, when), free + change
        return at
