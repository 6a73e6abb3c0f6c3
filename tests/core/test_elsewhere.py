"""Stories of users of a fleet: what they used at other nodes counts here, by the weight that the fleet states."""

from __future__ import annotations

import pytest
from core.world import GIB, World
from hypothesis import given
from hypothesis import strategies as st

from lmxd.core.books.shares import Shares
from lmxd.core.rules import Policy, Quota
from lmxd.core.words import NO_CONNECTION, Elsewhere, Owner

MUCH = 100.0 * GIB


def owner(user: str) -> Owner:
    return Owner(uid=1, pid=1, connection=NO_CONNECTION, user=user)


def test_who_used_more_at_other_nodes_stands_behind_who_used_less() -> None:
    world = World(fairness=60.0)
    world.ask("a", 20)
    hog = world.ask("b", 20, user="hog", elsewhere=Elsewhere(used=9 * MUCH))
    other = world.ask("c", 20, user="other", elsewhere=Elsewhere(used=MUCH))
    world.tick(1)
    assert world.waiting() == [other, hog]


def test_the_weight_of_the_fleet_counts_instead_of_that_of_the_key() -> None:
    world = World(fairness=60.0, key_quotas={"light": Quota(weight=100.0)})
    world.ask("a", 20)
    light = world.ask("b", 20, user="light", elsewhere=Elsewhere(used=MUCH, weight=1.0))
    heavy = world.ask("c", 20, user="heavy", elsewhere=Elsewhere(used=2 * MUCH, weight=3.0))
    world.tick(1)
    assert world.waiting() == [heavy, light]


def test_without_a_word_of_the_fleet_the_last_one_counts() -> None:
    world = World(fairness=60.0)
    world.ask("a", 20)
    world.ask("b", 20, user="hog", elsewhere=Elsewhere(used=9 * MUCH))
    hog, other = world.ask("c", 20, user="hog"), world.ask("d", 20, user="other")
    world.tick(1)
    assert world.waiting().index(other) < world.waiting().index(hog)


def test_a_request_that_waits_is_ranked_by_what_the_next_one_says() -> None:
    world = World(fairness=60.0)
    world.ask("a", 20)
    first = world.ask("b", 20, user="hog")
    other = world.ask("c", 20, user="other", elsewhere=Elsewhere(used=MUCH))
    assert world.waiting() == [first, other]
    world.ask("d", 20, user="hog", elsewhere=Elsewhere(used=9 * MUCH))
    world.tick(1)
    assert world.waiting()[0] == other


@given(
    used=st.floats(0, 1e15),
    weight=st.floats(0.1, 1000),
    passed=st.floats(0, 1e6),
)
def test_use_elsewhere_decays_and_is_forgotten_as_use_here_is(used: float, weight: float, passed: float) -> None:
    shares, policy, one = Shares(), Policy(half_life=100.0), owner("ada")
    shares.know(one, Elsewhere(used=used, weight=weight), 0.0, policy)
    shares.settle(passed, policy)
    left = used * 2.0 ** (-passed / 100.0)
    if left < 1.0:
        assert one.who not in shares.by_user
    else:
        assert shares.total == pytest.approx(left / weight)
        assert shares.lateness(one, policy) == pytest.approx(policy.fairness)
