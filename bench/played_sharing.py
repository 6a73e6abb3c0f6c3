"""Agents as bench/played_agents.py has them, whose conversations have shares of one cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from played_agents import CARRY, MODEL, PlayedAgents, PlayedTurn
from played_setting import Place

from lmxd.core.decisions import Decision, StopInstance
from lmxd.core.instances import Instance
from lmxd.core.words import Cause, InstanceId, TicketId
from lmxd.gateway.leasing.slots import GOES_ON
from lmxd.gateway.leasing.traces import Trace as Prompt
from lmxd.rpc.messages import Granted


@dataclass(slots=True)
class SharingAgents(PlayedAgents):
    """One trace. What lies in idle slots is lost where cells are short."""

    _lie: dict[Place, int] = field(default_factory=dict)
    """Tokens in each slot that has not lost them."""
    _lay: dict[int, Place] = field(default_factory=dict)
    """The slot of each conversation's last turn, by the first block of its prompts."""
    _put_by: set[int] = field(default_factory=set)
    """The conversations that lie in files."""
    _growing: dict[TicketId, PlayedTurn] = field(default_factory=dict)

    def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, StopInstance) and decision.cause is Cause.GROWN:
            self._put_by |= {c for c, at in self._lay.items() if at[0] == decision.instance and at in self._lie}
        PlayedAgents._carry_out(self, decision)

    def _carried(self, ticket: TicketId, name: InstanceId) -> Place:
        place = PlayedAgents._carried(self, ticket, name)
        turn = self._growing[ticket]
        self._fill(place, turn.tokens)
        return place

    def _ask(self, said: Iterator[PlayedTurn], turn: PlayedTurn) -> None:
        """As many shares as are needed, or as there are where the conversation lies; if it lies nowhere, apart."""
        serve, own = self._serving(), self._lay.get(turn.blocks.start, ("", 0))
        near = own[0] if own in self._lie and own[0] in serve else None
        full = self._full(turn) if self.setting.apart and near is None else []
        step = self.setting.step(turn.tokens)
        if near is not None:
            step = min(step, serve[near].ask.context)
        most = 1 + bool(full)
        asked = self.setting.of(step, self._least(step, full))
        ticket = self._world.ask(MODEL, max_instances=most, near=near, apart=full, **asked)
        self._waiting[ticket] = lambda name, _: self._grown(said, turn, ticket, name)

    def _grow(self, turn: PlayedTurn, ticket: TicketId, lease: Granted, slot: int | None) -> TicketId:
        step = self.setting.step(turn.tokens)
        asked = self.setting.of(step, self._least(step, [], lease.slots))
        growth = self._world.grow(ticket, slot=slot, max_instances=1, **asked)
        self._growing[growth] = turn
        return growth

    def _reading(self, turn: PlayedTurn, place: Place, seen: Prompt) -> float:
        conversation = turn.blocks.start
        if conversation in self._put_by and self._lay[conversation] != place:
            seconds = CARRY
        else:
            seconds = PlayedAgents._reading(self, turn, place, seen if place in self._lie else ())
        self._put_by.discard(conversation)
        self._lay[conversation] = place
        self._fill(place, turn.tokens)
        return seconds

    def _serving(self) -> dict[str, Instance]:
        """The instances that accept leases."""
        return {name: found for name, found in self._world.state.instances.items() if found.accepts}

    def _least(self, step: int, full: list[str], gives: int = 0) -> int:
        """The fewest shares of an instance for a request, as the daemon has it: no fewer than there are.

        One that needs more than there is, or is to be apart, has those of others in it, too. ``gives``: those that it
        gives back.
        """
        serve, own = self._serving(), step // self.setting.steps[0]
        like = max((found.ask.spread for found in serve.values()), default=0)
        if not full and own <= like:
            return like
        taken = max((found.ask.spread - found.free_slots for found in serve.values()), default=gives) - gives
        return max(like, own + max([taken, *(serve[name].ask.spread for name in full)]))

    def _full(self, turn: PlayedTurn) -> list[str]:
        """The instances in which conversations that go on leave no room for it."""
        now = self._world.now
        goes_on = {p: n for p, n in self._lie.items() if now - self._used.get(p, inf) < GOES_ON}
        return [
            name
            for name, found in self._serving().items()
            if sum(n for place, n in goes_on.items() if place[0] == name) + turn.tokens > found.ask.context
        ]

    def _fill(self, place: Place, tokens: int) -> None:
        """Have a slot take cells. For those that lack, the gateway erases idle slots, those used longest ago first."""
        self._lie[place] = tokens
        beside = [other for other in self._lie if other[0] == place[0]]
        idle = iter(sorted((p for p in beside if p != place and self._used[p] < inf), key=self._used.__getitem__))
        while sum(self._lie.get(other, 0) for other in beside) > self._world.instance(place[0]).ask.context:
            del self._lie[next(idle)]
