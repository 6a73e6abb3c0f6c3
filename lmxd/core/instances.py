"""Tickets, the leases that become of them, and the instances that carry both."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from lmxd.core.words import Ask, Cause, Demand, Hold, InstanceId, LeaseId, Option, Owner, Phase, TicketId

UNUSED_AFTER = 5.0
"""Seconds without a request after which a lease counts as unused. A program that thinks between two calls is faster."""
EVIDENCE_MAX_AGE = 0.5
"""Seconds for which an engine's word that it is idle is believed when stopping it is at stake."""


@dataclass(kw_only=True, slots=True, eq=False)
class Ticket:
    """One request that has not been answered. ``number`` counts requests; ``instance`` is set once it starts."""

    id: TicketId
    number: int
    lease: LeaseId
    owner: Owner
    ask: Ask
    hold: Hold
    ttl: float | None
    asked_at: float
    wait: float | None
    deadline_at: float | None
    key: str | None = None
    rank: float = 0.0
    queued_at: float | None = None
    """Since when it stands in line, if that is later than its ask: what served its kind has had its turn."""
    instance: InstanceId | None = None
    progressing: bool = False
    """Idle instances are on their way out for it: it is being served rather than waiting."""
    promised: bool = False
    """Instances have ended for it: nobody of its class who comes later takes their bytes, however little he used."""
    beyond: bool = False
    """It takes no place of the queue: when it came, room was being made for it already."""
    why: str = ""
    told: tuple[object, float | None] | None = None
    """Where it was last said to stand, and when its lease was expected."""

    @property
    def patient(self) -> bool:
        return self.wait is None or self.wait > 0


@dataclass(kw_only=True, slots=True)
class Lease:
    """A client's right to use an instance. ``size`` is the part of its bytes that the holder accounts for."""

    id: LeaseId
    instance: InstanceId
    owner: Owner
    hold: Hold
    slots: int
    size: int
    priority: int
    granted_at: float
    ttl: float | None
    key: str | None = None
    """What its client knows the request for it by."""
    expires_at: float | None = None
    share: bool = True
    """Whether others may have leases beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The holders of an instance were asked to yield it, by a time, for a reason."""

    by: float
    cause: Cause
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """An instance is to make way for a ticket: it takes no new ones from ``closes_at`` on, and goes when it is done.

    ``price``: seconds that the two loads take. ``turn_ends``: when its turn is over, whether or not somebody has it
    then; from that time on nobody is waited for.
    """

    ticket: TicketId
    profile: str
    closes_at: float
    price: float
    turn_ends: float = inf


@dataclass(kw_only=True, slots=True, eq=False)
class Instance:
    """One start of one engine process, or one hold."""

    id: InstanceId
    ask: Ask
    option: Option
    phase: Phase
    started_at: float
    postponed: bool = False
    """It stands in line to load, for nobody knows how long."""
    load_at: float | None = None
    """When its load began, if that was later than its start."""
    ready_at: float | None = None
    active_at: float
    used_at: float = 0.0
    """When it was last seen to do something, or a lease on it began or ended; that a holder renews one is no use."""
    busy: bool = False
    checked_at: float | None = None
    checking: bool = False
    turn_at: float = 0.0
    """When its turn began: its quantum counts from then."""
    stays_until: float = 0.0
    """Nobody has it, but whoever had it usually comes back at once: before that time."""
    stopped_at: float | None = None
    swap: Swap | None = None
    swap_told: float = 0.0
    """When it was last said to close."""
    closed: bool = False
    """It takes no new ones: its quantum is over, and others wait for its bytes."""
    idlers: frozenset[LeaseId] = frozenset()
    """The leases with which nothing was done when it was last closed: while one is held, closing it serves nobody."""
    opened_for: TicketId | None = None
    """The ticket for which it was closed when ``idlers`` were noted."""
    yielding: Asked | None = None
    tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)

    @property
    def demand(self) -> Demand:
        return self.option.demand

    def loaded_at(self, seconds: float, now: float) -> float:
        """When it is ready at the earliest, if its load takes so many seconds."""
        begun = self.started_at if self.load_at is None else self.load_at
        return now + seconds if self.postponed else begun + seconds

    @property
    def live(self) -> bool:
        return self.phase is Phase.READY or self.phase is Phase.STARTING

    @property
    def accepts(self) -> bool:
        """Whether it takes new ones at all: it is not on its way out, nor told to go."""
        return self.live and self.yielding is None and not self.closed

    @property
    def free_slots(self) -> int:
        taken = sum([t.ask.slots for t in self.tickets.values()]) + sum([x.slots for x in self.leases.values()])
        return self.ask.spread - taken

    @property
    def vacant(self) -> bool:
        """Nobody has or awaits a lease on it."""
        return not self.tickets and not self.leases

    @property
    def shared(self) -> bool:
        """Whether everybody who has or awaits a lease on it lets others have one beside it."""
        mine = self.ask.share and all(x.share for x in self.leases.values())
        return mine and all(t.ask.share for t in self.tickets.values())

    @property
    def idled(self) -> bool:
        """Whether it stays though it is closed, because somebody has it and does nothing with it."""
        return not self.idlers.isdisjoint(self.leases)

    def unused(self, now: float) -> bool:
        """Whether somebody has a lease on it, and its engine has had nothing to do for a while."""
        quiet = not self.busy and self.checked_at is not None
        return quiet and bool(self.leases) and not self.tickets and now - self.used_at > UNUSED_AFTER

    def ends_unused(self, lease: Lease) -> float:
        """When a lease ends at the latest, if nobody uses the instance any more; infinite if nothing ends it."""
        idle = inf if self.ask.pin or self.ask.external else self.active_at + self.ask.idle_timeout
        return idle if lease.expires_at is None else min(idle, lease.expires_at)

    def turn_over(self, now: float) -> bool:
        """Whether it need not wait for anybody who may come back: it is to make way, and has had its turn."""
        return self.closed or (self.swap is not None and now >= self.swap.turn_ends)

    def closes_in(self, now: float) -> float:
        """Seconds for which it still takes new ones, if it is to make way."""
        return 0.0 if self.closed or self.swap is None else max(0.0, self.swap.closes_at - now)

    def could_serve(self, ask: Ask) -> bool:
        """Whether it is as ``ask`` wants it, leaving aside who has it now."""
        mine = self.ask
        return (
            self.accepts
            and not mine.external
            and mine.kind == ask.kind
            and mine.context >= ask.context
            and mine.spread >= ask.slots
            and (ask.spills or not self.option.spills)
        )

    def serves(self, ask: Ask) -> bool:
        """Whether a further lease for ``ask`` could be carried now, at no bytes."""
        if not self.could_serve(ask) or self.free_slots < ask.slots:
            return False
        return self.vacant or (ask.share and self.shared)

    def known_idle(self, now: float) -> bool:
        """Whether there is fresh evidence that no request is in flight. One that never was ready has none."""
        if self.phase is Phase.STARTING:
            return True
        return not self.busy and self.checked_at is not None and now - self.checked_at <= EVIDENCE_MAX_AGE
