"""Imperatives: all that the core ever orders. The outcome of each comes back as an event."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.reasons import EndReason
from lmxd.core.words import (
    Ask,
    Cause,
    InstanceId,
    LeaseId,
    Option,
    Owner,
    Refusal,
    Shortfall,
    TicketId,
    Turn,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class StartInstance(Decision):
    instance: InstanceId
    ask: Ask
    option: Option
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StopInstance(Decision):
    instance: InstanceId
    cause: Cause
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckActivity(Decision):
    """Ask the engine now: an eviction waits for the answer."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantLease(Decision):
    """``waited``: seconds from the ask to this answer. ``why``: what made it possible."""

    ticket: TicketId
    lease: LeaseId
    instance: InstanceId
    profile: str
    owner: Owner
    waited: float
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseLease(Decision):
    ticket: TicketId
    owner: Owner
    ask: Ask
    refusal: Refusal
    waited: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportProgress(Decision):
    """``position`` counts from 1 in the queue and is 0 once the instance is starting.

    ``eta``: seconds until the lease is expected, None where nothing can be said. ``waits_for``:
    the instances that must end, and the quota that is used up, if any; ``turns``: those of them that others use.
    """

    ticket: TicketId
    owner: Owner
    position: int
    eta: float | None
    waits_for: tuple[str, ...] = ()
    instance: InstanceId | None = None
    shortfalls: tuple[Shortfall, ...] = ()
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSwap(Decision):
    """An instance is to make way for a ticket, whose model is ``profile``.

    ``closes_in``: seconds for which it still takes new ones; 0: it is closed, and goes when it has done what it
    does; None: it stays after all. ``price``: seconds that loading both models takes. ``unused``: nobody does
    anything with the leases on it: it is open, and goes when they end.
    """

    instance: InstanceId
    ticket: TicketId
    profile: str
    owner: Owner | None
    closes_in: float | None
    price: float
    unused: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AskToYield(Decision):
    """A holder is asked to release its lease within so many seconds; None: it may keep it after all."""

    lease: LeaseId
    instance: InstanceId
    owner: Owner
    within: float | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EndLease(Decision):
    lease: LeaseId
    instance: InstanceId
    owner: Owner
    reason: EndReason
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetInstance(Decision):
    """The device shows the instance's bytes free: nothing of it is left."""

    instance: InstanceId
