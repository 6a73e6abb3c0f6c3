"""Slots of an instance: each request has the one in which the least is computed again, and never another's."""

from __future__ import annotations

import itertools
import random
import sys

from examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.gateway.leasing.slots import InstanceSlots, Slots
from lmxd.gateway.leasing.traces import agreeing, trace
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import InstanceShrunk

SYSTEM = random.Random(1).randbytes(4000)
LATER = itertools.count()
"""The time, of which some passes with each request."""


def words(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def served(slots: Slots, prompt: bytes) -> int | None:
    """The slot of a request that is answered before the next one comes."""
    slot = slots.take(trace(prompt))
    slots.give_back(slot, next(LATER))
    return slot


def lease(instance: str, slots: int = 2) -> Granted:
    return Granted(
        lease="l-1", instance=instance, model="m", endpoint="http://x", base_url="http://x/v1", api_key="k", ctx=1,
        slots=1, instance_slots=slots, devices={}, basis="declared", hold="connection", waited=0,
    )  # fmt: skip


def test_prompts_agree_as_far_as_they_begin_alike() -> None:
    one = trace(SYSTEM + words(2, 4000))
    assert agreeing(one, trace(SYSTEM + words(3, 4000))) == len(trace(SYSTEM))
    assert agreeing(one, one) == len(one)
    assert agreeing(one, trace(b"x" + SYSTEM)) == 0, "what is moved is another prompt"
    assert agreeing(one, trace(b"")) == 0


def test_of_a_prompt_that_is_larger_than_any_context_no_more_is_kept_than_its_beginning() -> None:
    """A client may send 64 MB at once, to each slot of each model."""
    found = trace(bytes(64 * 2**20))
    assert len(found) == len(trace(bytes(8 * 2**20))) == 2**16
    assert sys.getsizeof(found) <= 2**20
    assert agreeing(found, trace(bytes(5000) + b"x" + bytes(64 * 2**20))) == 5000 // 128


def test_of_instances_that_have_as_much_of_a_conversation_the_last_used_has_it() -> None:
    """The others may have ended, which nobody says."""
    every = InstanceSlots(several=True)
    for instance in ("m#9", "m#10"):
        with every.taken(lease(instance), trace(SYSTEM)):
            pass
    assert every.of_conversation("m", trace(SYSTEM))[2] == "m#10"
    with every.taken(lease("m#9"), trace(SYSTEM)):
        pass
    assert every.of_conversation("m", trace(SYSTEM))[2] == "m#9"


def test_a_conversation_goes_on_in_its_slot() -> None:
    slots, agents = Slots(4), [SYSTEM + words(10 + n, 9000) for n in range(4)]
    first = [served(slots, agent) for agent in agents]
    assert len(set(first)) == 4, "each has one to itself, though all begin alike"
    for turn in range(3):
        agents = [agent + words(turn, 500) for agent in agents]
        assert [served(slots, agent) for agent in reversed(agents)] == first[::-1]


def test_a_prompt_that_is_mostly_there_is_computed_once() -> None:
    slots = Slots(4)
    questions = [SYSTEM + words(20 + n, 300) for n in range(4)]
    assert len({served(slots, question) for question in questions}) == 1


def test_of_several_slots_the_one_is_taken_that_was_used_least_recently() -> None:
    slots = Slots(3)
    told = [served(slots, words(n, 1000)) for n in range(3)]
    assert sorted(each for each in told if each is not None) == [0, 1, 2]
    assert [served(slots, words(10 + n, 1000)) for n in range(3)] == told


def test_beside_a_request_of_which_the_slot_is_not_known_the_engine_chooses() -> None:
    slots = Slots(4)
    known = slots.take(trace(SYSTEM))
    assert known is not None
    assert slots.take(None) is None
    assert slots.take(trace(SYSTEM)) is None, "it might be the same"
    slots.give_back(None, 0)
    slots.give_back(None, 0)
    assert slots.take(trace(words(1, 500))) not in (None, known)


def test_an_instance_may_have_the_prompts_of_the_one_before() -> None:
    every, prompts = InstanceSlots(), [trace(words(n, 5000)) for n in range(2)]
    with every.taken(lease("m#1"), prompts[0]) as first, every.taken(lease("m#1"), prompts[1]) as second:
        assert {first, second} == {0, 1}
    with every.taken(lease("m#2"), prompts[1]) as again:
        assert again == second
    with every.taken(lease("m#3", slots=1), prompts[0]) as alone:
        assert alone == 0


def test_what_lay_in_an_instance_that_shrank_is_known_in_the_smaller_one() -> None:
    every, prompts = InstanceSlots(), [trace(words(n, 5000)) for n in range(3)]
    before = lease("m#1", slots=3).model_copy(update={"ctx": 4096, "ctx_most": 4096})
    with every.taken(before, prompts[0]), every.taken(before, prompts[1]), every.taken(before, prompts[2]):
        pass
    assert every.of_conversation("m", prompts[2])[1:] == (4096, "m#1")
    ends = InstanceShrunk(model="m", before="m#1", instance="m#1", ctx=1024, instance_slots=2, slots=[(0, 0), (2, 2)])
    every.shrunk(ends)
    assert [every.of_conversation("m", prompts[n])[1:] for n in (0, 2)] == [(1024, "m#1")] * 2, "it is about to"
    told = InstanceShrunk(model="m", before="m#1", instance="m#2", ctx=1024, instance_slots=2, slots=[(2, 0), (0, 1)])
    every.shrunk(told)
    assert [every.of_conversation("m", prompts[n])[1:] for n in (0, 2)] == [(1024, "m#2")] * 2
    now = before.model_copy(update={"instance": "m#2", "instance_slots": 2, "ctx": 1024})
    with every.taken(now, prompts[0]) as first, every.taken(now, prompts[2]) as third:
        assert (first, third) == (1, 0)
    every.shrunk(told.model_copy(update={"before": "m#7", "instance": "m#8"}))
    assert every.of_conversation("m", prompts[0])[1:] == (1024, "m#2"), "of others nothing was known"


def test_a_slot_has_a_conversation_that_goes_on_for_a_few_seconds_after_its_answer_or_until_it_has_moved() -> None:
    now, prompts = 0.0, [trace(words(n, 5000)) for n in range(3)]
    every = InstanceSlots(clock=lambda: now)
    both, alone, larger = (
        lease(name, slots).model_copy(update={"ctx": ctx, "ctx_most": 4096})
        for name, slots, ctx in (("m#1", 2, 1024), ("m#2", 1, 1024), ("m#3", 1, 4096))
    )
    with every.taken(both, prompts[0]):
        assert every.lived_in("m", 1000) == [], "its other slot is nobody's"
    now = 3.0
    with every.taken(both, prompts[1]), every.taken(alone, prompts[2]):
        pass
    assert every.lived_in("m", 1024) == ["m#1", "m#2"]
    assert every.lived_in("m", 2048) == [], "those are too small"
    now = 6.0
    assert every.lived_in("m", 1024) == ["m#2"], "one of two has said nothing for six seconds"
    with every.taken(both, None):
        assert every.lived_in("m", 1024) == ["m#2", "m#1"], "its engine has chosen a slot for another"
    moved = larger.model_copy(update={"slot": 0})
    every.moved(moved, alone, 0, prompts[2])
    with every.taken(moved, prompts[2]):
        assert every.lived_in("m", 1024) == ["m#3"], "its conversation is at a larger one"


class Requests(RuleBasedStateMachine):
    """Requests that come and end in any order, some of them of prompts that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(3)
        self.inside: list[int | None] = []
        self.used: dict[int, int] = {}
        self.clock = 0

    @rule(start=st.integers(0, 3), own=st.integers(0, 5), blocks=st.integers(0, 40))
    def asks(self, start: int, own: int, blocks: int) -> None:
        prompt = trace(SYSTEM[: start * 1000] + words(own, blocks * 128))
        before = list(self.slots.seen)
        free = set(range(3)) - set(self.inside)
        known = None not in self.inside and len(self.inside) < 3
        slot = self.slots.take(prompt)
        self.inside.append(slot)
        if not known:
            assert slot is None
            return
        assert slot in free
        gain = {each: max(0, 2 * agreeing(before[each], prompt) - len(before[each])) for each in free}
        best = {each for each in free if gain[each] == max(gain.values())}
        assert slot == min(best, key=lambda each: (self.used.get(each, 0), each))

    @rule()
    def asks_unknown(self) -> None:
        assert self.slots.take(None) is None
        self.inside.append(None)

    @rule(which=st.integers(0, 20))
    def ends(self, which: int) -> None:
        if self.inside:
            slot = self.inside.pop(which % len(self.inside))
            self.clock += 1
            self.slots.give_back(slot, self.clock)
            self.used |= {} if slot is None else {slot: self.clock}

    @invariant()
    def no_slot_has_two_requests(self) -> None:
        placed = [slot for slot in self.inside if slot is not None]
        assert len(placed) == len(set(placed))
        assert self.slots.are_idle == (not self.inside)


Requests.TestCase.settings = settings(max_examples=examples(200), stateful_step_count=40)
TestRequests = Requests.TestCase
