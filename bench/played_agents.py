"""Agents at a gateway and a card that are played, in time that passes as fast as the CPU allows."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf

from core.world import Gpu, World, lease_of
from elastic_trace import Trace
from played_setting import Place, Setting

from lmxd.core.decisions import (
    CarryConversation,
    CheckActivity,
    Decision,
    GrantLease,
    MoveLease,
    RefuseLease,
    SaveConversation,
    StartInstance,
    StopInstance,
)
from lmxd.core.words import InstanceId, Phase, TicketId
from lmxd.gateway.leasing.slots import InstanceSlots
from lmxd.gateway.leasing.traces import Trace as Prompt
from lmxd.gateway.leasing.traces import agreeing
from lmxd.rpc.messages import Granted

MODEL = "m"
TURN, LOAD, CARRY, EXIT, LOOK = 0.9, 1.5, 0.4, 0.15, 0.005
"""Seconds of 128 tokens of an answer, of a start, to move a conversation, to end, and to say whether it works."""
ANEW = 8000.0
"""Tokens of a prompt that are computed in a second."""
POLL = 1.0
BLOCK = 30
"""Tokens of a block of a prompt, as the gateway compares them."""


@dataclass(frozen=True, slots=True)
class PlayedTurn:
    """``blocks``: of its prompt, of which ``new`` tokens are its own; ``tokens``: with those of its answer."""

    pause: float
    blocks: range
    new: int
    tokens: int


def _said(agent: int, trace: Trace) -> Iterator[PlayedTurn]:
    """All turns of an agent, one conversation after the other."""
    for number, talk in enumerate(trace.agents[agent]):
        had = 0
        for turn in talk.turns:
            prompt, first = had + len(turn.words), (agent * 1000 + number) * 10**6
            blocks = range(first, first + prompt // BLOCK)
            yield PlayedTurn(turn.pause, blocks, len(turn.words), prompt + talk.answer)
            had = prompt + talk.answer


def turns(trace: Trace) -> Iterator[tuple[float, float, int]]:
    """When each turn begins and the next one does, if nobody waits, and its tokens."""
    for agent in range(len(trace.agents)):
        begins = 0.0
        for turn in _said(agent, trace):
            ends = begins + turn.pause + TURN
            yield begins, ends, turn.tokens
            begins = ends


@dataclass(slots=True)
class PlayedAgents:
    """One trace. ``anew``: tokens that were computed again; ``growths``: seconds of each; ``most``: bytes at once."""

    trace: Trace
    setting: Setting
    byte_seconds: float = 0.0
    took: float = 0.0
    most: int = 0
    anew: int = 0
    growths: list[float] = field(default_factory=list)
    _world: World = field(init=False)
    _slots: InstanceSlots = field(init=False)
    _events: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _read: int = 0
    """The decisions that were carried out."""
    _waiting: dict[TicketId, Callable[[InstanceId, int | None], None]] = field(default_factory=dict)
    """What goes on when a ticket is answered, at an instance and with a slot that has its conversation."""
    _working: Counter[str] = field(default_factory=Counter)
    _used: dict[Place, float] = field(default_factory=dict)
    """When the last turn in a slot ended, or infinity."""
    _left: int = 0
    """Agents that are not done."""

    def __post_init__(self) -> None:
        self._world = World({"gpu": Gpu(capacity=self.setting.limit)}, queue_depth=1000)
        self._slots = InstanceSlots(clock=lambda: self._world.now)

    def run(self) -> None:
        world, self._left = self._world, len(self.trace.agents)
        for agent in range(self._left):
            self._later(0.01 * agent, partial(self._next, _said(agent, self.trace)))
        self._later(POLL, self._poll)
        while self._left:
            at, _, happens = heapq.heappop(self._events)
            charged = sum(world.state.ledger.accounts[device].charged for device in world.state.ledger.accounts)
            self.byte_seconds += charged * max(0.0, at - world.now)
            self.most = max(self.most, charged)
            world.now = max(world.now, at)
            happens()
            while self._read < len(world.log):
                self._read += 1
                self._carry_out(world.log[self._read - 1])
        self.took = world.now

    def _later(self, seconds: float, happens: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self._world.now + seconds, next(self._numbers), happens))

    def _carry_out(self, decision: Decision) -> None:
        world = self._world
        match decision:
            case StartInstance():
                self._later(LOAD, partial(world.ready, decision.instance))
            case StopInstance():
                self._later(EXIT, partial(world.gone, decision.instance))
            case CarryConversation():
                self._later(CARRY, partial(self._carried, decision.ticket, decision.instance))
            case SaveConversation():
                self._later(CARRY, partial(world.saved, decision.instance))
            case CheckActivity():
                self._later(LOOK, partial(self._look, decision.instance))
            case GrantLease():
                self._waiting.pop(decision.ticket)(decision.instance, None)
            case MoveLease():
                slot = decision.carried[0][1] if decision.carried else None
                self._waiting.pop(decision.ticket)(decision.instance, slot)
            case RefuseLease():
                raise SystemExit(f"{decision.ticket} was refused: {decision.refusal.message}")

    def _carried(self, ticket: TicketId, name: InstanceId) -> Place:
        """A conversation lies in the slot that was used least lately, as the daemon has it."""
        slots = range(self._world.instance(name).ask.spread)
        slot = min(slots, key=lambda each: self._used.get((name, each), 0.0))
        self._used[name, slot] = max(self._world.now, self._used.get((name, slot), 0.0))
        self._world.carried(ticket, slot)
        return name, slot

    def _look(self, name: InstanceId) -> None:
        found = self._world.state.instances.get(name)
        if found is not None and found.phase is Phase.READY:
            self._world.seen(name, busy=self._working[name] > 0)

    def _poll(self) -> None:
        self._world.tick()
        for name in list(self._world.state.instances):
            self._look(name)
        self._later(POLL, self._poll)

    def _lease(self, ticket: str, name: InstanceId, slot: int | None = None) -> Granted:
        ask, shares = self._world.state.instances[name].ask, self._world.state.leases[lease_of(ticket)].slots
        return Granted(
            lease=lease_of(ticket), instance=name, model=MODEL, endpoint="", base_url="", api_key="",
            ctx=ask.tokens(shares), ctx_most=self.setting.steps[-1], slots=shares, instance_slots=ask.spread,
            devices={}, basis="declared", hold="connection", waited=0, slot=slot, alone=True,
        )  # fmt: skip

    def _next(self, said: Iterator[PlayedTurn]) -> None:
        """The next turn of an agent, after its work."""
        if (turn := next(said, None)) is None:
            self._left -= 1
        else:
            self._later(turn.pause, partial(self._ask, said, turn))

    def _ask(self, said: Iterator[PlayedTurn], turn: PlayedTurn) -> None:
        """A lease where the conversation lies, else with the context that it needs."""
        _, lies, near = self._slots.of_conversation(MODEL, turn.blocks)
        step = lies or self.setting.step(turn.tokens)
        lost = not near and step > self.setting.steps[0] and self.setting.apart
        apart = self._slots.lived_in(MODEL, step) if lost else ()
        ticket = self._world.ask(MODEL, max_instances=1, near=near or None, apart=apart, **self.setting.of(step))
        self._waiting[ticket] = lambda name, _: self._grown(said, turn, ticket, name)

    def _grown(self, said: Iterator[PlayedTurn], turn: PlayedTurn, ticket: TicketId, name: InstanceId) -> None:
        """Have its lease grow, if its context is too small."""
        lease, begun = self._lease(ticket, name), self._world.now
        if turn.tokens <= lease.ctx or lease.ctx == self.setting.steps[-1]:
            self._serve(said, turn, ticket, lease)
            return
        slot = self._slots.lies_in(lease, turn.blocks)

        def moved(name: InstanceId, carried: int | None) -> None:
            self.growths.append(self._world.now - begun)
            grown = self._lease(ticket, name, carried)
            if name != lease.instance:
                self._slots.moved(grown, lease, slot, turn.blocks)
            self._serve(said, turn, ticket, grown)

        self._waiting[self._grow(turn, ticket, lease, slot)] = moved

    def _grow(self, turn: PlayedTurn, ticket: TicketId, lease: Granted, slot: int | None) -> TicketId:
        """Ask for the growth of a lease; ``slot``: that of its conversation."""
        step = self.setting.step(turn.tokens)
        apart = self._slots.lived_in(MODEL, step) if self.setting.apart else ()
        return self._world.grow(ticket, slot=slot, apart=apart, max_instances=None, **self.setting.of(step))

    def _serve(self, said: Iterator[PlayedTurn], turn: PlayedTurn, ticket: TicketId, lease: Granted) -> None:
        """Answer it, and give its lease back."""
        stack = ExitStack()
        slot = stack.enter_context(self._slots.taken(lease, turn.blocks))
        place = lease.instance, slot or 0
        before = self._reading(turn, place, () if slot is None else self._slots.before(lease, slot).seen)
        self._working[lease.instance] += 1
        self._used[place] = inf

        def done() -> None:
            stack.close()
            self._used[place] = self._world.now
            self._working[lease.instance] -= 1
            self._world.release(ticket)
            self._next(said)

        self._later(TURN + before, done)

    def _reading(self, turn: PlayedTurn, place: Place, seen: Prompt) -> float:
        """Seconds for that of its prompt which is computed anew, in a slot that has ``seen`` another."""
        anew = max(0, len(turn.blocks) - turn.new // BLOCK - agreeing(seen, turn.blocks) - 10) * BLOCK
        self.anew += anew
        return anew / ANEW
