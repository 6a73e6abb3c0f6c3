"""The context that leases start with: nine of ten conversations have enough, up at once, and down slowly."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lmxd.estimate.starts import NO_STARTS, ConversationSizes, KnownStarts, beginning

STEPS = (4096, 8192, 16384, 65536)
TOKENS = st.integers(1, 65536)


def after(*tokens: int, sizes: ConversationSizes = ConversationSizes()) -> ConversationSizes:
    for each in tokens:
        sizes = sizes.seeing(each, STEPS)
    return sizes


@given(st.integers(0, 10**6))
def test_a_start_is_the_least_step_that_is_enough_and_never_the_last(tokens: int) -> None:
    found = beginning(STEPS, tokens)
    assert found in STEPS[:-1]
    assert found >= min(tokens, STEPS[-2])
    assert all(step < tokens for step in STEPS if step < found)
    assert beginning((8192,), tokens) == 8192, "of a single step"


@given(st.lists(TOKENS, min_size=1, max_size=200))
def test_nine_of_ten_have_as_many_as_is_usual_and_few_less_do(seen: list[int]) -> None:
    sizes, weights = after(*seen), [0.98 ** (len(seen) - 1 - n) for n in range(len(seen))]
    enough = sum(w for w, tokens in zip(weights, seen, strict=True) if tokens <= sizes.usual)
    assert enough >= 0.89 * sum(weights), "a little of the oldest is forgotten"
    less = sizes.usual / 2**0.5 - 1
    assert sum(w for w, tokens in zip(weights, seen, strict=True) if tokens <= less) < 0.91 * sum(weights)
    assert sizes.count == len(seen)


def test_nothing_is_said_before_there_are_enough() -> None:
    assert NO_STARTS.of("m", None) is None
    few = after(*[6000] * 7)
    assert KnownStarts({("m", None): few}).of("m", None) is None
    assert after(6000, sizes=few).start == 8192


def test_a_user_of_whom_too_little_is_known_has_what_all_have() -> None:
    everybody, alice = after(*[6000] * 8), after(*[100] * 8)
    known = KnownStarts({("m", None): everybody, ("m", (7, "alice")): alice, ("m", (7, "bob")): after(100)})
    assert known.of("m", (7, "alice")) is alice
    assert known.of("m", (7, "bob")) is everybody
    assert known.of("m", (8, "carol")) is everybody
    assert known.of("n", (7, "alice")) is None


def test_it_becomes_larger_at_once_and_smaller_step_by_step() -> None:
    sizes = after(*[500] * 8)
    assert sizes.start == 4096
    sizes = after(16000, 16000, sizes=sizes)
    assert sizes.start == 16384, "more than one in ten"
    starts = []
    for _ in range(400):
        sizes = after(500, sizes=sizes)
        starts.append(sizes.start)
    falls = [n for n, (before, now) in enumerate(pairwise(starts)) if now < before]
    assert sorted(set(starts)) == [4096, 8192, 16384]
    assert falls[1] - falls[0] == 32
    assert falls[0] >= 32


def test_a_long_one_now_and_then_keeps_it_where_it_is() -> None:
    sizes = after(*[500] * 8, *[16000] * 8)
    for _ in range(60):
        sizes = after(*[500] * 6, 16000, sizes=sizes)
        assert sizes.start == 16384


class Damping(RuleBasedStateMachine):
    """Conversations of any size, after which the start may be anything that its rules allow."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = ConversationSizes()
        self.since = 0
        """Conversations since the start was last another."""

    @rule(tokens=TOKENS, times=st.integers(1, 40))
    def talk(self, tokens: int, times: int) -> None:
        for _ in range(times):
            before, self.sizes = self.sizes, self.sizes.seeing(tokens, STEPS)
            if self.sizes.count > 8:
                self._changed(before)

    def _changed(self, before: ConversationSizes) -> None:
        wanted = beginning(STEPS, self.sizes.usual)
        if wanted >= before.start:
            assert self.sizes.start == wanted, "up at once"
        else:
            assert wanted <= self.sizes.start
            assert bisect_left(STEPS, before.start) - bisect_left(STEPS, self.sizes.start) in (0, 1)
        self.since += 1
        if self.sizes.start < before.start:
            assert self.since >= 32
        if self.sizes.start != before.start:
            self.since = 0

    @invariant()
    def starts_with_a_step(self) -> None:
        assert self.sizes.start in (STEPS[:-1] if self.sizes.count >= 8 else (0,))
        assert self.sizes.below < 32
        assert len(self.sizes.buckets) <= 33


TestDamping = Damping.TestCase


@given(st.integers(1, 10**6))
def test_other_steps_after_a_reload_are_heeded(top: int) -> None:
    steps = tuple(sorted({256, max(256, top // 2), max(512, top)}))
    found = after(*[16000] * 20).seeing(16000, steps)
    assert found.start >= beginning(steps, 16000)
    assert beginning(steps, found.start) in (steps[:-1] or steps)
