"""Keys of the gateway are users of their own: each with its weight and its limits, within those of its uid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import RefuseLease
from lmxd.core.orders import PolicyChanged
from lmxd.core.rules import Quota
from lmxd.text import user_name


def refusal(world: World, ticket: str) -> RefuseLease:
    return next(x for x in world.all(RefuseLease) if isinstance(x, RefuseLease) and x.ticket == ticket)


def test_a_key_has_limits_of_its_own_and_others_do_not() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, key_quotas={"anna": Quota(max_leases=1, max_waiting=1)})
    first = world.ask("a", 8, user="anna")
    second = world.ask("b", 8, user="anna")
    third = world.ask("c", 8, user="anna")
    ben = [world.ask(model, 8, user="ben") for model in "def"]
    assert world.waiting() == [second], "there is room, but the key has a lease"
    assert world.refused() == {third: "too_many_waiting"}
    assert refusal(world, third).refusal.message.startswith("key anna has 1 request waiting already")
    assert refusal(world, third).refusal.remedy.endswith("or have max_waiting in keys: raised")
    assert world.started() == ["a#1", "d#1", "e#1", "f#1"]
    world.ready("a#1")
    world.release(first)
    world.seen("a#1")
    assert world.started()[-1] == "b#1", "the key has none any more"
    assert not set(ben) & world.refused().keys()


def test_bytes_of_a_key_are_limited_and_more_than_all_of_them_is_refused() -> None:
    world = World(key_quotas={"anna": Quota(max_bytes=10 * GIB)})
    world.ask("a", 8, user="anna")
    over, never = world.ask("b", 8, user="anna"), world.ask("c", 12, user="anna")
    assert world.waiting() == [over]
    assert world.refused() == {never: "over_quota"}
    assert refusal(world, never).refusal.remedy == "ask for less, or have max_memory_gb in keys: raised"
    impatient = world.ask("d", 8, user="anna", wait=0)
    found = refusal(world, impatient).refusal
    assert found.code == "over_quota"
    assert found.message.startswith("key anna holds 8.00 of at most 10.00 GiB")
    assert found.remedy == "ask again when a lease of it has ended, or have max_memory_gb in keys: raised"


def test_who_waited_for_its_own_quota_is_told_so() -> None:
    world = World(key_quotas={"anna": Quota(max_leases=1)})
    world.ask("a", 8, user="anna")
    over = world.ask("b", 8, user="anna", wait=5)
    world.tick(6)
    found = refusal(world, over).refusal
    assert found.code == "wait_expired"
    assert found.message == "the request waited as long as it would: key anna has 1 of at most 1 leases"
    assert found.remedy == "ask again when a lease of it has ended, or have max_leases in keys: raised"
    assert not found.shortfalls, "there was room"


def test_default_is_for_keys_that_are_not_named_and_for_no_user() -> None:
    world = World(
        {"gpu": Gpu(capacity=80 * GIB)}, default_key=Quota(max_leases=1), key_quotas={"anna": Quota(max_leases=2)}
    )
    for user in ("anna", "ben", ""):
        for model in "abc":
            world.ask(f"{user}{model}", 4, user=user)
    assert world.started() == ["annaa#1", "annab#1", "bena#1", "a#1", "b#1", "c#1"]


def test_a_key_is_bound_by_the_quota_of_its_uid_too() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=1)}, key_quotas={"anna": Quota()})
    world.ask("a", 8, uid=1, user="anna")
    over = world.ask("b", 8, uid=1, user="ben")
    assert world.waiting() == [over]


def test_the_same_name_for_another_uid_is_another_key() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, default_key=Quota(max_leases=1))
    world.ask("a", 8, uid=1, user="anna")
    world.ask("b", 8, uid=2, user="anna")
    assert world.started() == ["a#1", "b#1"]


def with_equal_use(**rules: Any) -> World:
    """A full world in which anna and ben hold as much, for as long."""
    world = World({"gpu": Gpu(capacity=40 * GIB)}, fairness=60.0, **rules)
    for name, user in (("a", "anna"), ("b", "ben")):
        world.ask(name, 20, uid=1, user=user)
        world.ready(f"{name}#1")
    world.tick(100)
    return world


def test_a_heavier_key_stands_before_a_lighter_one_of_the_same_use() -> None:
    world = with_equal_use(key_quotas={"anna": Quota(weight=4.0)}, quotas={1: Quota()})
    light = world.ask("c", 30, uid=1, user="ben")
    world.pass_time(10)
    heavy = world.ask("d", 30, uid=1, user="anna")
    world.tick(1.1)
    assert world.waiting() == [heavy, light], "the same bytes for the same time, but anna weighs four times as much"


def test_other_weights_count_at_once() -> None:
    world = with_equal_use()
    ben = world.ask("c", 30, uid=1, user="ben")
    world.pass_time(10)
    anna = world.ask("d", 30, uid=1, user="anna")
    world.tick(1.1)
    assert world.waiting() == [ben, anna]
    policy = replace(world.state.policy, key_quotas={"anna": Quota(weight=4.0)})
    world.happen(PolicyChanged(at=world.now, policy=policy))
    assert world.waiting() == [anna, ben], "by the event itself"


def test_another_aging_counts_at_once() -> None:
    world = World(aging=10.0, preempt=False)
    world.ask("a", 20)
    low = world.ask("b", 20)
    world.pass_time(20)
    high = world.ask("c", 20, priority=1)
    assert world.waiting() == [low, high]
    world.happen(PolicyChanged(at=world.now, policy=replace(world.state.policy, aging=100.0)))
    assert world.waiting() == [high, low]


def test_the_weight_of_a_uid_is_for_all_of_its_keys() -> None:
    policy = World(quotas={1: Quota(weight=2.0)}, key_quotas={"anna": Quota(weight=3.0)}).state.policy
    assert [policy.weight(user) for user in ((1, ""), (1, "ben"), (1, "anna"), (2, "anna"))] == [2.0, 2.0, 6.0, 3.0]


@pytest.mark.parametrize("mine", [True, False])
def test_what_a_key_left_behind_is_ended_for_its_own_limit_alone(mine: bool) -> None:
    """Its engine works on, though its request is over: the lease counts, for the key that had it."""
    world = World({"gpu": Gpu(capacity=80 * GIB)}, grace=5.0, default_key=Quota(max_leases=1))
    first = world.ask("a", 8, uid=1, user="anna")
    world.ready("a#1")
    world.release(first)
    world.seen("a#1", busy=True)
    if not mine:
        world.ask("b", 8, uid=1, user="ben")
    world.ask("c", 8, uid=1, user="anna" if mine else "ben")
    assert len(world.waiting()) == 1
    world.tick(6)
    world.seen("a#1", busy=True)
    world.tick(1)
    assert bool(world.stopped()) is mine


def test_a_user_is_called_by_its_key() -> None:
    assert (user_name(1, "anna"), user_name(1, "")) == ("key anna", "uid 1")
    world = World(queue_depth=0)
    world.ask("a", 20, user="anna")
    world.ready("a#1")
    turned_away = world.ask("b", 20, user="ben")
    assert world.refused() == {turned_away: "queue_full"}
    assert lease_of(turned_away) not in world.state.leases
