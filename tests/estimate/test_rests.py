"""What is learned once: near a promise nothing, beyond it what was seen, and never more and more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmxd.estimate.rests import NO_RESTS, KnownRests, Rest

MIB = 2**20
EXACT = 3_000 * MIB
PRIOR = 1_500 * MIB


def promised(rests: KnownRests) -> Rest:
    """A launch as it is promised by what is known."""
    rest = rests.get("k")
    return Rest(key="k", promised=EXACT + (PRIOR if rest is None else rest), exact=EXACT)


@given(st.lists(st.integers(-400 * MIB, 64 * MIB), max_size=8))
def test_near_a_promise_nothing_is_learned(looks: list[int]) -> None:
    rests = NO_RESTS
    for over in looks:
        assert rests.seeing(promised(rests), EXACT + PRIOR + over) is NO_RESTS


def test_beyond_it_the_next_start_is_promised_what_was_seen_rounded_up() -> None:
    rests = NO_RESTS.seeing(promised(NO_RESTS), EXACT + 1_701 * MIB)
    assert rests.get("k") == 1_728 * MIB
    assert rests.seeing(promised(rests), EXACT + 1_740 * MIB) is rests


def test_a_prior_far_above_is_given_up_once() -> None:
    rests = NO_RESTS.seeing(promised(NO_RESTS), EXACT + 100 * MIB)
    assert rests.get("k") == 128 * MIB
    assert rests.seeing(promised(rests), EXACT) is rests, "what was learned does not become less"


class Starts(RuleBasedStateMachine):
    """Starts of one sort of launch, each of which takes about the same, more once it was prompted."""

    def __init__(self) -> None:
        super().__init__()
        self.rests = NO_RESTS
        self.takes = 0
        self.changes = 0

    @precondition(lambda self: not self.takes)
    @rule(takes=st.integers(100, 4_000))
    def begins(self, takes: int) -> None:
        self.takes = takes * MIB

    @precondition(lambda self: self.takes)
    @rule(less=st.integers(0, 30), prompted=st.booleans())
    def is_looked_at(self, less: int, prompted: bool) -> None:
        """A start differs by 30 MiB from another, and has taken 40 MiB less before it was prompted."""
        taken = EXACT + self.takes - less * MIB - (0 if prompted else 40 * MIB)
        found = self.rests.seeing(promised(self.rests), taken)
        self.changes += found is not self.rests
        self.rests = found

    @invariant()
    def the_promise_changes_at_most_twice_and_is_bounded(self) -> None:
        assert self.changes <= 2
        most = max(EXACT + PRIOR, EXACT + self.takes + 64 * MIB)
        assert promised(self.rests).promised <= most


TestStarts = Starts.TestCase
