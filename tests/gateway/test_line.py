"""The line for one model: first come, first served; nobody waits beside a free lease; no lease serves two."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmxd.errors import LmxdError
from lmxd.gateway.line import Ask, Held, Line, Standing, Waiter, Wish
from lmxd.rpc import notifications as n

WISH = Wish("m")


class Lines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.line = Line()
        self.now = 0.0
        self.number = 0
        self.came: list[Waiter] = []
        """Who waits, in the order in which they came."""
        self.using: dict[str, Held] = {}
        self.told: dict[int, Standing] = {}

    def teardown(self) -> None:
        self.loop.close()

    def _advance(self) -> None:
        """As the pool does: as many asks as are wanted."""
        while self.line.wants_more:
            self.line.asks.append(Ask())

    def _left(self, waiter: Waiter) -> None:
        for ask in self.line.leave(waiter):
            ask.withdrawn = True

    def _settle(self) -> None:
        """Those whose turn has come leave the line, and use what they got."""
        while done := [w for w in self.came if w.turn.done()]:  # one that leaves may let another's time be over
            waiter = done[0]
            self.came.remove(waiter)
            self._left(waiter)
            if waiter.turn.exception() is None:
                held = waiter.turn.result()
                assert held.lease.lease not in self.using, "one lease serves two"
                self.using[held.lease.lease] = held
        self._advance()

    @rule()
    def come(self) -> None:
        held = self.line.take()
        if held is not None:
            assert not self.came, "somebody was overtaken"
            self.using[held.lease.lease] = held
            return
        waiter = Waiter(WISH, lambda s, number=self.number: self.told.__setitem__(number, s), self.loop.create_future())
        self.number += 1
        self.line.join(waiter)
        self.came.append(waiter)
        self._advance()
        self.line.tell()

    @precondition(lambda self: self.line.asks)
    @rule(position=st.integers(0, 3))
    def progress(self, position: int) -> None:
        state: Any = "queued" if position else "starting"
        self.line.asks[0].progress = n.Progress(request=1, ticket="t", position=position, state=state)
        self.line.tell()
        self._settle()

    @precondition(lambda self: self.line.asks)
    @rule(slots=st.integers(1, 4))
    def granted(self, slots: int) -> None:
        self.line.asks.pop(0)
        self.number += 1
        lease: Any = SimpleNamespace(lease=f"l-{self.number}", instance="m#1")
        held = Held(lease, self.now)
        self.line.limit = max(self.line.limit, slots)
        self.line.held[lease.lease] = held
        before = list(self.came)
        self.line.offer(held, self.now)
        if before:
            assert before[0].turn.done(), "the first in line has it"
        self._settle()

    @precondition(lambda self: self.line.standing_asks)
    @rule()
    def refused(self) -> None:
        self.line.asks.remove(self.line.standing_asks[0])
        nothing = not self.line.held and not self.line.asks
        self.line.refused(LmxdError("no_capacity", "there is none"))
        assert all(w.turn.done() == nothing for w in self.came)
        self._settle()

    @precondition(lambda self: self.using)
    @rule(again=st.booleans(), data=st.data())
    def done(self, again: bool, data: st.DataObject) -> None:
        held = self.using.pop(data.draw(st.sampled_from(sorted(self.using))))
        if again:
            self.line.offer(held, self.now)
        else:
            self.line.drop(held)
        self._settle()

    @precondition(lambda self: self.came)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.came))
        self.came.remove(waiter)
        self._left(waiter)
        self._settle()

    @precondition(lambda self: any(ask.withdrawn for ask in self.line.asks))
    @rule()
    def cancelled(self) -> None:
        """lmxd says so of what was withdrawn."""
        self.line.asks.remove(next(ask for ask in self.line.asks if ask.withdrawn))
        self._advance()

    @precondition(lambda self: self.came)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.came))
        self.line.late(waiter)
        assert waiter.turn.done() == (waiter.standing.state == "queued")
        self._settle()

    @invariant()
    def those_who_wait_are_in_the_order_in_which_they_came(self) -> None:
        assert list(self.line.waiters) == self.came

    @invariant()
    def nobody_waits_beside_a_free_lease(self) -> None:
        assert not (self.line.free and self.line.waiters)

    @invariant()
    def no_more_is_asked_for_than_is_wanted(self) -> None:
        assert len(self.line.standing_asks) <= len(self.line.waiters)

    @invariant()
    def somebody_is_asked_as_long_as_nobody_could_come_free(self) -> None:
        assert not self.line.waiters or self.line.asks or self.line.held

    @invariant()
    def a_lease_is_free_or_in_use(self) -> None:
        free = {held.lease.lease for held in self.line.free}
        assert free | self.using.keys() == self.line.held.keys()
        assert not free & self.using.keys()


TestLines = Lines.TestCase
