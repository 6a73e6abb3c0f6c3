"""Decisions, in the imperative: all orders that the core gives. The outcome of each comes back as an event."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.answers import Refusal, Shortfall, Turn
from lmxd.core.moves import Carry, Move
from lmxd.core.reasons import EndReason
from lmxd.core.words import Ask, Cause, InstanceId, LeaseId, Option, Owner, TicketId


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One order of the core to the daemon, such as ``StartInstance``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartInstance(Decision):
    """Start an instance at ``option``, whose bytes are reserved already. ``why`` is for the log and the journal.

    ``carries``: conversations that it is to read from their files before it is ready, into its first slots in order.
    """

    instance: InstanceId
    ask: Ask
    option: Option
    why: str
    carries: tuple[Carry, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StopInstance(Decision):
    """Stop an instance, whose leases have ended. Its bytes stay charged until a reading shows them free.

    ``unasked``: it shrinks though nobody waits for what it gives back.
    """

    instance: InstanceId
    cause: Cause
    why: str
    unasked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SleepInstance(Decision):
    """Put an idle instance to sleep. Its bytes stay charged until a reading shows them free."""

    instance: InstanceId
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WakeInstance(Decision):
    """Wake a sleeping instance, for which the bytes that it lacks are reserved already."""

    instance: InstanceId
    profile: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckActivity(Decision):
    """Ask the engine now whether it is busy, for an idle instance is about to be stopped."""

    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class GrantLease(Decision):
    """Grant a lease on an instance that is ready.

    ``waited``: seconds from the request to this answer. ``why``: the reason why it was possible now, such as a free
    slot.
    """

    ticket: TicketId
    lease: LeaseId
    instance: InstanceId
    profile: str
    owner: Owner
    waited: float
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SaveConversation(Decision):
    """Save the conversations in ``slots`` of an instance, which is idle and is to end, to files that outlive it.

    ``others``: the slots with conversations that go nowhere with it, but may go on later.
    """

    instance: InstanceId
    slots: frozenset[int]
    others: frozenset[int] = frozenset()
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CarryConversation(Decision):
    """Carry conversations to an instance that is ready, to which their lease moves then."""

    ticket: TicketId
    lease: LeaseId
    carries: tuple[Carry, ...]
    instance: InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveLease(Decision):
    """Answer a growth: its lease is on ``instance`` now, and was on the one ``before``.

    They are the same if that one has enough context: ``widened`` if the lease has further slots there now.
    A move that nobody asked for has a ticket that nobody waits for.

    ``carried``: where each conversation that went along lay before, and the slot where it lies now. ``waited``: seconds
    from the request to this answer. ``why``: the reason why it was possible now.
    """

    ticket: TicketId
    lease: LeaseId
    instance: InstanceId
    before: InstanceId
    profile: str
    owner: Owner
    waited: float
    carried: tuple[tuple[int, int], ...]
    widened: bool = False
    move: Move
    why: str

    @property
    def slot(self) -> int | None:
        """The slot where its conversation lies; None if it is processed anew, or one of several."""
        return self.carried[0][1] if len(self.carried) == 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseLease(Decision):
    """Answer a request or a growth with a refusal: a lease that was to grow stays where it is.

    ``waited``: seconds from the request to this answer. ``moves``: the lease that was to grow.
    """

    ticket: TicketId
    owner: Owner
    ask: Ask
    refusal: Refusal
    waited: float
    moves: LeaseId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportProgress(Decision):
    """Tell a client where its request stands.

    ``position`` counts from 1 in the queue, and is 0 once the instance is starting. ``eta``: seconds until the lease is
    expected, None if unknown. ``waits_for``: the instances that must end, or the quota that is used up. ``turns``: the
    instances among them that other clients use.
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
    """Tell that an instance is to make way for a ticket, whose model is ``profile``.

    ``closes_in``: seconds for which it accepts new requests; 0: it is closed, and ends when its requests are finished;
    None: the swap is cancelled, and it stays. ``price``: seconds that loading both models takes. ``unused``: its leases
    are idle; it stays open, and ends when they end.
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
    """Ask a holder to release its lease within so many seconds; None: the holder may keep it after all."""

    lease: LeaseId
    instance: InstanceId
    owner: Owner
    within: float | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EndLease(Decision):
    """Tell a holder that its lease has ended, and why: it was released, it expired, or its instance ended."""

    lease: LeaseId
    instance: InstanceId
    owner: Owner
    reason: EndReason
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetInstance(Decision):
    """Delete the records of an instance: the device shows its bytes free."""

    instance: InstanceId
