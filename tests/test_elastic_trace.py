"""The trace of bench/elastic.py has the tail that it is to have, and is the same for the same seed."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent.parent / "bench"))

from elastic_trace import ANSWER, LARGE, LEAST, MEDIAN, MOST, TOP, Scale, size_at, trace

SEEDS = st.integers(0, 2**32)


@settings(max_examples=30)
@given(seed=SEEDS, agents=st.integers(1, 12), talks=st.integers(1, 4), by=st.sampled_from((1, 4, 16)))
def test_every_request_has_room_in_the_whole_context(seed: int, agents: int, talks: int, by: int) -> None:
    scale = Scale(by)
    made = trace(seed, agents, talks, scale, pause=1.0)
    assert [len(each) for each in made.agents] == [talks] * agents
    for talk in made:
        assert 0 < talk.tokens <= TOP // by
        assert all(LEAST // by <= len(turn.words) <= MOST // by and turn.pause >= 0 for turn in talk.turns)
        assert talk.answer == ANSWER // by


@settings(max_examples=10)
@given(seed=SEEDS)
def test_one_seed_is_one_trace(seed: int) -> None:
    one, same, other = (trace(number, 4, 2, Scale(16)) for number in (seed, seed, seed + 1))
    assert one == same
    assert one != other


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_short_trace_has_its_share_of_large_conversations(seed: int) -> None:
    """Sizes are drawn from strata; a conversation ends where a turn would exceed its size."""
    sizes = [talk.tokens for talk in trace(seed, 12, 5, Scale())]
    large = sum(size > LARGE for size in sizes)
    assert len(sizes) // 10 - 1 <= large <= len(sizes) // 10 + 1
    assert MEDIAN - LEAST - ANSWER - 300 < statistics.median(sizes) < MEDIAN + 300


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_trace_of_large_conversations_alone(seed: int) -> None:
    sizes = [talk.tokens for talk in trace(seed, 4, 2, Scale(), above=0.9)]
    assert min(sizes) > LARGE - MOST


@pytest.mark.parametrize(("part", "tokens"), [(0.5, MEDIAN), (0.9, LARGE), (1.0, TOP)])
def test_sizes_follow_the_distribution(part: float, tokens: int) -> None:
    assert size_at(part) == tokens
