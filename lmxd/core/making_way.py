"""How an instance makes way: its holders are asked to yield it, or its turn ends for a ticket."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from lmxd.core.words import Cause, TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request to the holders of an instance to yield it: until when, and why."""

    by: float
    cause: Cause
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """A plan to end an instance for a ticket: from ``closes_at`` on it accepts no new requests, and ends when idle.

    ``price``: seconds that the two loads take. ``turn_ends``: the time at which its turn is over. From then on it ends
    as soon as it is idle, without a pause for clients that usually come back.
    """

    ticket: TicketId
    profile: str
    closes_at: float
    price: float
    turn_ends: float = inf
