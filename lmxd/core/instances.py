"""Instances: the processes that serve leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from lmxd.core.holders import Lease, Ticket
from lmxd.core.making_way import Asked, Swap
from lmxd.core.moves import Carry
from lmxd.core.words import Ask, Demand, DeviceId, InstanceId, LeaseId, Option, Phase, TicketId

UNUSED_AFTER = 5.0
"""Seconds without a request after which a lease counts as unused. An agent's pause between two calls is shorter."""
EVIDENCE_MAX_AGE = 0.5
"""Seconds for which an engine's answer that it is idle is believed when it is to be stopped (docs/adr/0002)."""
GUESS_LASTS = 15.0
"""Seconds after its last lease for which an engine counts as busy only because clients are connected to it."""


@dataclass(kw_only=True, slots=True, eq=False)
class Instance:
    """One start of one engine process, or one hold."""

    id: InstanceId
    ask: Ask
    option: Option
    phase: Phase
    started_at: float
    postponed: bool = False
    """It waits to load, until other loads on its devices end. How long that takes is unknown."""
    load_at: float | None = None
    """The time at which its load began, if it had waited."""
    ready_at: float | None = None
    active_at: float
    used_at: float = 0.0
    """The time at which it last did something, or a lease on it began or ended. A renewed lease does not count."""
    busy: bool = False
    checked_at: float | None = None
    checking: bool = False
    vacant_since: float = 0.0
    """The time at which its last lease ended, or at which it began if it had none yet."""
    last_use: Lease | None = None
    """The last lease that it had, until it has another: its holder has the key still, and may have left work behind."""
    served: set[int] = field(default_factory=set)
    """The uids that had leases on it: any of them may have kept its key, or a connection."""
    rested: bool = False
    """Its engine said that it was idle since its last lease ended: who released that left nothing behind."""
    keep_alive: float | None = None
    """Seconds without a lease after which it ends, as the client of its last lease said; at most its idle_timeout."""
    outgrown: bool = False
    """Its only lease has moved to an instance with more context, so that nobody is expected back: it ends once idle."""
    superseded: bool = False
    """A larger one with one cache for all slots has taken its place: it serves nobody any more, and ends once idle."""
    saving: bool = False
    """Its conversations are being saved, for it is to end."""
    others_put_by: bool = False
    """Conversations in its other slots were put by since, as far as that was worth it."""
    saved: frozenset[int] = frozenset()
    """The slots for which that was tried since it last worked."""
    carries: tuple[Carry, ...] = ()
    """The files of those that had a conversation, and could be saved."""
    smaller: Ask | None = None
    """One with less context, which is enough for what each slot was seen to use since it last worked."""
    shrinking: bool = False
    """It ends so that one as ``smaller`` takes its place, which is not for a lease."""
    grown_at: float = -inf
    """The time at which a lease last moved to it for more context."""
    evictable_from: float = 0.0
    """It has no lease, but the last client usually comes back at once. Until this time it is not evicted."""
    stopped_at: float | None = None
    slept_at: float | None = None
    """The time at which its engine said that it sleeps."""
    stays_behind: Demand = field(default_factory=dict)
    """While it falls asleep: bytes by device that it is expected to go on taking."""
    left: int | None = None
    """And all bytes that the last reading left it on its cards."""
    swap: Swap | None = None
    swap_told: float = 0.0
    """The closing time that was last reported to clients."""
    closed: bool = False
    """It accepts no new requests: its quantum is over, and others wait for its bytes."""
    idle_leases: frozenset[LeaseId] = frozenset()
    """The leases that it had when it first closed for ``reopened_for``. While one of them is held, closing it frees no
    bytes.
    """
    reopened_for: TicketId | None = None
    """The ticket for which it was closed when ``idle_leases`` were noted."""
    yielding: Asked | None = None
    tickets: dict[TicketId, Ticket] = field(default_factory=dict)
    leases: dict[LeaseId, Lease] = field(default_factory=dict)

    @property
    def demand(self) -> Demand:
        return self.option.demand

    def loaded_at(self, seconds: float, now: float) -> float:
        """The earliest time at which it is ready, if its load takes ``seconds``."""
        begun = self.started_at if self.load_at is None else self.load_at
        return now + seconds if self.postponed else begun + seconds

    @property
    def live(self) -> bool:
        return self.phase is Phase.READY or self.comes_up

    @property
    def comes_up(self) -> bool:
        """Whether it will be ready: it loads, or it wakes."""
        return self.phase is Phase.STARTING or self.phase is Phase.WAKING

    @property
    def ends(self) -> bool:
        """Whether it was told to stop, or has exited."""
        return self.phase is Phase.STOPPING or self.phase is Phase.RECLAIMING

    @property
    def cards(self) -> Demand:
        """The bytes on each device that sleep may free: all but RAM, where its weights go."""
        return {device: need for device, need in self.demand.items() if device not in self.ask.sleeps}

    def gives_back(self, device: DeviceId, charge: int) -> int:
        """Bytes of its ``charge`` on a device that come free by themselves: all of one that ends, or the difference."""
        if self.ends:
            keeps = self.lesser.demand.get(device, 0) if self.shrinking and self.lesser else 0
            return max(0, charge - keeps)
        if self.phase is not Phase.DOZING or device in self.ask.sleeps:
            return 0
        return max(0, charge - self.stays_behind.get(device, 0))

    @property
    def lesser(self) -> Option | None:
        """The way in which ``smaller`` runs where it does, if that takes less; None if it cannot."""
        none = self.smaller is None or self.smaller.spread < self.taken_slots
        options = () if self.smaller is None or none else self.smaller.options
        mine = self.demand
        same = (o for o in options if o.demand.keys() == mine.keys() and o.spills <= self.option.spills)
        return next((o for o in same if all(need < mine[device] for device, need in o.demand.items())), None)

    def worked(self, now: float) -> None:
        """Note that it is at work, or was: nothing is known of its conversations any more."""
        self.active_at = self.used_at = now
        self.smaller = None
        self.unsaved()

    def unsaved(self) -> None:
        """Note that what was saved of it is for nobody."""
        self.saved, self.carries, self.others_put_by = frozenset(), (), False

    @property
    def accepts(self) -> bool:
        """Whether it accepts new leases: it is live, not closed, and its holders were not asked to yield."""
        return self.live and self.yielding is None and not self.closed and not self.superseded

    @property
    def taken_slots(self) -> int:
        return sum([t.ask.slots for t in self.tickets.values()]) + sum([x.slots for x in self.leases.values()])

    @property
    def free_slots(self) -> int:
        return self.ask.spread - self.taken_slots

    @property
    def vacant(self) -> bool:
        """Whether it has neither leases nor tickets."""
        return not self.tickets and not self.leases

    @property
    def shared(self) -> bool:
        """Whether all its leases and tickets allow others beside them."""
        mine = self.ask.share and all(x.share for x in self.leases.values())
        return mine and all(t.ask.share for t in self.tickets.values())

    @property
    def stays(self) -> float:
        """Seconds without a lease and a request after which it ends."""
        return self.ask.idle_timeout if self.keep_alive is None else min(self.keep_alive, self.ask.idle_timeout)

    @property
    def held_idle(self) -> bool:
        """Whether one of ``idle_leases`` is still held, so that closing it frees no bytes. It may be in use again."""
        return not self.idle_leases.isdisjoint(self.leases)

    def unused(self, now: float) -> bool:
        """Whether it has leases, and its engine has had nothing to do for ``UNUSED_AFTER`` seconds."""
        quiet = not self.busy and self.checked_at is not None
        return quiet and bool(self.leases) and not self.tickets and now - self.used_at > UNUSED_AFTER

    def ends_unused(self, lease: Lease) -> float:
        """The latest time at which a lease ends if the instance is not used any more; infinite if nothing ends it."""
        idle = inf if self.ask.pin or self.ask.external else self.active_at + self.ask.idle_timeout
        return idle if lease.expires_at is None else min(idle, lease.expires_at)

    def turn_over(self, now: float) -> bool:
        """Whether it ends as soon as it is idle, without a pause for clients that may come back: its turn is over."""
        return self.closed or (self.swap is not None and now >= self.swap.turn_ends)

    def closes_in(self, now: float) -> float:
        """Seconds for which it accepts new requests, if it is to make way."""
        return 0.0 if self.closed or self.swap is None else max(0.0, self.swap.closes_at - now)

    def could_serve(self, ask: Ask) -> bool:
        """Whether it could serve ``ask`` if all its slots were free, and it takes new leases."""
        return self.accepts and self.is_like(ask)

    def is_like(self, ask: Ask) -> bool:
        """Whether it is what ``ask`` wants: same kind, enough context, enough slots.

        In one cache for all slots, slots as large are the context.
        """
        mine = self.ask
        return (
            not mine.external
            and mine.kind == ask.kind
            and (mine.tokens(1) == ask.tokens(1) if mine.unified else mine.context >= ask.context)
            and mine.spread >= ask.slots
            and self.option.spills <= ask.spills
        )

    def makes_way_for_larger(self, ask: Ask) -> bool:
        """Whether it would go for an instance of its own model that serves ``ask``, or is about to."""
        ours = self.swap is not None and self.swap.profile == self.ask.profile
        return not self.ask.external and (self.accepts or ours) and not self.could_serve(ask)

    def serves(self, ask: Ask, moves: LeaseId | None = None) -> bool:
        """Whether a lease for ``ask`` can be granted on it now, without further bytes.

        ``moves``: the lease that grows by that, which keeps its slots if it has them here.
        """
        own = 0 if moves is None or moves not in self.leases else self.leases[moves].slots
        if not self.could_serve(ask) or self.free_slots + own < ask.slots:
            return False
        return self.vacant or (ask.share and self.shared)

    def is_handed_over(self, uid: int, now: float) -> bool:
        """Whether ``uid`` may have it: the last holder was the same user, or is known to have left no work behind."""
        return self.last_use is None or self.last_use.owner.uid == uid or self.known_idle(now)

    def works(self, now: float, *, busy: bool, guessed: bool) -> bool:
        """Whether it is at work, if its engine says ``busy``. Without a lease, that is not guessed for long."""
        return busy and not (guessed and self.vacant and now - self.vacant_since >= GUESS_LASTS)

    @property
    def strays(self) -> bool:
        """Whether it works though nobody has a lease on it."""
        return self.vacant and self.busy and self.phase is Phase.READY

    @property
    def is_anybodys(self) -> bool:
        """Whether any of several users may have it work without a lease, so that it is charged to none of them."""
        return self.rested and len(self.served) > 1

    def stays_until(self, grace: float) -> float:
        """The time from which it is ended for others as it is, if it works without a lease: its last user's grace."""
        return self.vacant_since + (0.0 if self.is_anybodys else grace)

    def overstays(self, now: float, grace: float) -> bool:
        """Whether it works without a lease for longer than it may: then it is ended for others as it is."""
        return self.strays and not self.ask.external and now >= self.stays_until(grace)

    def known_idle(self, now: float) -> bool:
        """Whether its engine said just now that no request is in flight. One that starts, wakes or sleeps has none."""
        if self.comes_up or self.phase is Phase.ASLEEP:
            return True
        return not self.busy and self.checked_at is not None and now - self.checked_at <= EVIDENCE_MAX_AGE
