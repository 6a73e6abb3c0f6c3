"""The cells of one cache: a request has its own without the engine having to look, and the longest idle lose theirs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmxd.gateway.leasing.slots import Cells, InstanceSlots
from lmxd.gateway.leasing.traces import trace
from lmxd.rpc.messages import Granted

SHARE, SLOTS = 100, 6
CELLS = SHARE * SLOTS


def lease(shares: int) -> Granted:
    return Granted(
        lease="l-1", instance="m#1", model="m", endpoint="http://x", base_url="http://x/v1", api_key="k",
        ctx=shares * SHARE, ctx_most=CELLS, slots=shares, instance_slots=SLOTS, alone=True, devices={},
        basis="declared", hold="connection", waited=0,
    )  # fmt: skip


@dataclass
class Asked:
    """A request in a slot."""

    lease: Granted
    slot: int
    held: AbstractContextManager[int | None]


class OneCache(RuleBasedStateMachine):
    """Requests whose leases are never more than the cache, as lmxd grants them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slots = InstanceSlots(clock=lambda: self.now)
        self.asked: list[Asked] = []
        self.lies: dict[int, int] = {}
        """Slot -> tokens that its engine has there."""
        self.used: dict[int, float] = {}

    @property
    def free(self) -> int:
        return SLOTS - sum(each.lease.slots for each in self.asked)

    @precondition(lambda self: self.free)
    @rule(who=st.integers(0, 9), shares=st.integers(1, SLOTS), less=st.integers(0, SHARE - 1))
    def ask(self, who: int, shares: int, less: int) -> None:
        self.now += 1
        granted = lease(min(shares, self.free))
        held = self.slots.taken(granted, trace(bytes([who]) * 1000))
        slot = held.__enter__()
        assert slot is not None
        takes = granted.ctx - less
        kept = {
            each: self.used[each] for each, tokens in self.lies.items() if tokens and each not in {slot, *self.busy}
        }
        self.asked.append(Asked(granted, slot, held))
        self.lies[slot] = takes
        for erased in self.slots.spares(granted, slot, Cells(CELLS, takes)):
            assert self.used[erased] == min(kept.values()), "the one that was used longest ago"
            assert sum(self.lies.values()) > CELLS, "no more than has to be"
            del kept[erased], self.lies[erased]
        assert sum(self.lies.values()) <= CELLS

    @property
    def busy(self) -> set[int]:
        return {each.slot for each in self.asked}

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, SLOTS), said=st.integers(0, SHARE), counted=st.booleans())
    def answered(self, which: int, said: int, counted: bool) -> None:
        """An engine may say nothing of its tokens: they are as many as the request might have had."""
        self.now += 1
        one = self.asked.pop(which % len(self.asked))
        if counted:
            self.lies[one.slot] = min(self.lies[one.slot], said)
            self.slots.filled(one.lease, one.slot, 0, self.lies[one.slot])
        else:
            self.slots.filled(one.lease, one.slot, None, said)
        one.held.__exit__(None, None, None)
        self.used[one.slot] = self.now

    @invariant()
    def no_two_have_one_slot(self) -> None:
        assert len(self.busy) == len(self.asked)


OneCache.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40)
TestOneCache = OneCache.TestCase


def test_what_goes_on_crowds_an_instance_for_a_few_seconds() -> None:
    now = [0.0]
    slots = InstanceSlots(clock=lambda: now[0])
    granted = lease(4)
    with slots.taken(granted, trace(bytes(1000))):
        assert slots.crowded("m", CELLS, SHARE) == [], "nobody knows whether it goes on"
    with slots.taken(granted, trace(bytes(2000))) as slot:
        assert slots.crowded("m", 2 * SHARE, SHARE) == []
        assert slots.crowded("m", 2 * SHARE + 1, SHARE) == ["m#1"]
        assert slot is not None
    slots.filled(granted, slot, 100, 50)
    assert slots.crowded("m", CELLS - 150, SHARE) == []
    assert slots.crowded("m", CELLS - 149, SHARE) == ["m#1"]
    now[0] += 5.0
    assert slots.crowded("m", CELLS, SHARE) == []
    assert slots.crowded("other", CELLS, SHARE) == []
