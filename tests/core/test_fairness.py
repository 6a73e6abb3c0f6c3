"""Stories of the queue's order: classes, aging, shares, quotas, dates, and who may go first without harm."""

from __future__ import annotations

import pytest
from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import RefuseLease, ReportProgress
from lmxd.core.events import LeaseReleased
from lmxd.core.rules import Quota


def told(world: World, ticket: str) -> ReportProgress:
    found = [x for x in world.all(ReportProgress) if isinstance(x, ReportProgress) and x.ticket == ticket]
    return found[-1]


def test_a_higher_class_stands_before_a_lower_one() -> None:
    world = World()
    world.ask("a", 20)
    low, high = world.ask("b", 20), world.ask("c", 20, priority=1)
    assert world.waiting() == [high, low]


def test_waiting_is_worth_a_class_after_the_time_of_aging() -> None:
    world = World(aging=30.0)
    world.ask("a", 20)
    low = world.ask("b", 20)
    world.pass_time(31)
    high = world.ask("c", 20, priority=1)
    assert world.waiting() == [low, high], "who asked more than one aging earlier is not overtaken by one class"


def test_nobody_waits_beyond_its_bound_behind_a_stream_of_a_higher_class() -> None:
    world = World(aging=10.0, fairness=0.0, queue_depth=100, preempt=False)
    holding = world.ask("hot", 20, priority=1)
    world.ready("hot#1")
    low = world.ask("low", 20)
    asked_at = world.now
    while not world.stopped():
        following = world.ask("hot", 20, priority=1)
        world.tick(3)
        world.release(holding)
        holding = following
        world.seen("hot#1")
        world.measure()
        assert world.now - asked_at <= 10 + 3 * 3, "later than one aging, and those who had asked before that"
    assert world.stopped() == [("hot#1", "evicted")]
    world.gone("hot#1")
    world.ready("low#1")
    assert low in world.granted()


def test_who_used_more_stands_behind_who_used_less() -> None:
    world = World(fairness=60.0)
    first = world.ask("a", 20, uid=1)
    world.ready("a#1")
    hog = world.ask("b", 20, uid=1)
    world.tick(30)
    other = world.ask("c", 20, uid=2)
    world.tick(1.1)
    assert world.waiting() == [other, hog], "it asked 30 s later, but its user had nothing yet"
    world.release(first)


def test_a_share_delays_by_no_more_than_fairness() -> None:
    world = World(fairness=20.0)
    world.ask("a", 20, uid=1)
    world.ready("a#1")
    hog = world.ask("b", 20, uid=1)
    world.tick(30)
    other = world.ask("c", 20, uid=2)
    world.tick(1.1)
    assert world.waiting() == [hog, other], "30 s of waiting are more than 20 s of fairness"


def test_those_for_whom_one_uid_asks_share_fairly() -> None:
    """Two keys of the gateway: the one that used more stands behind the one that used less."""
    world = World(fairness=60.0)
    world.ask("a", 20, uid=1, user="anna")
    world.ready("a#1")
    hog = world.ask("b", 20, uid=1, user="anna")
    world.tick(30)
    other = world.ask("c", 20, uid=1, user="ben")
    world.tick(1.1)
    assert world.waiting() == [other, hog], "it asked 30 s later, but ben had nothing yet"


def test_those_for_whom_one_uid_asks_have_its_quotas_together() -> None:
    world = World(quotas={1: Quota(max_leases=1, max_waiting=1)})
    first = world.ask("a", 8, uid=1, user="anna")
    world.ready("a#1")
    over = world.ask("b", 8, uid=1, user="ben")
    third = world.ask("c", 8, uid=1, user="cora")
    assert world.refused() == {third: "too_many_waiting"}
    assert world.waiting() == [over], "there is room, but its uid has a lease"
    world.release(first)
    world.seen("a#1")
    assert world.started()[-1] == "b#1", "nothing was left behind"


def test_who_has_waited_and_left_is_forgotten() -> None:
    world = World()
    world.ask("a", 20, uid=1, user="anna")
    world.ask("b", 20, uid=1, user="ben", connection=9)
    assert (1, "ben") in world.state.shares.by_user
    world.leave(9)
    world.state.shares.settle(world.now, world.state.policy)
    assert set(world.state.shares.by_user) == {(1, "anna")}


def test_weights_make_the_same_use_count_less() -> None:
    world = World({"gpu": Gpu(capacity=40 * GIB)}, fairness=60.0, quotas={1: Quota(weight=4.0)})
    world.ask("a", 20, uid=1)
    world.ask("b", 20, uid=2)
    world.ready("a#1")
    world.ready("b#1")
    world.tick(100)
    light = world.ask("c", 30, uid=2)
    world.pass_time(10)
    heavy = world.ask("d", 30, uid=1)
    world.tick(1.1)
    assert world.waiting() == [heavy, light], "the same bytes for the same time, but uid 1 weighs four times as much"


def test_use_is_forgotten_by_halves() -> None:
    world = World(half_life=10.0)
    ticket = world.ask("a", 20, uid=1)
    world.ready("a#1")
    world.pass_time(10)
    world.release(ticket)
    had = world.state.shares.by_user[1, ""]
    before = had.use
    had.settle(world.now + 10, 10.0)
    assert had.use == pytest.approx(before / 2)


@pytest.mark.parametrize("quota", [Quota(max_leases=1), Quota(max_bytes=10 * GIB)])
def test_who_is_over_a_quota_waits_and_holds_up_nobody(quota: Quota) -> None:
    world = World(quotas={1: quota})
    first = world.ask("a", 8, uid=1)
    world.ready("a#1")
    over, other = world.ask("b", 8, uid=1), world.ask("c", 8, uid=2)
    assert world.waiting() == [over]
    assert told(world, over).waits_for[0].startswith("uid 1 h")
    world.ready("c#1")
    assert other in world.granted()
    world.release(first)
    world.seen("a#1")
    assert world.started()[-1] == "b#1", "nothing was left behind"


def test_what_alone_exceeds_a_quota_is_refused_at_once() -> None:
    world = World(quotas={1: Quota(max_bytes=10 * GIB)})
    ticket = world.ask("a", 12, uid=1)
    assert world.refused() == {ticket: "over_quota"}


def test_no_more_may_wait_than_a_uids_quota() -> None:
    world = World(default=Quota(max_waiting=1))
    world.ask("a", 20)
    world.ask("b", 20)
    second = world.ask("c", 20)
    assert world.refused() == {second: "too_many_waiting"}
    assert world.ask("d", 20, uid=2) in world.waiting(), "another user's place is not taken"


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    world = World()
    world.ask("a", 20)
    world.ready("a#1")
    ticket = world.ask("b", 20, deadline=5)
    assert world.refused() == {ticket: "deadline"}
    refusal = world.last(RefuseLease).refusal
    assert refusal.retry_in is not None
    assert refusal.retry_in > 5


def test_for_who_would_be_too_late_nothing_is_started_and_nothing_ends() -> None:
    world = World()
    assert world.ask("a", 20, deadline=0.5) in world.refused()
    assert world.started() == []
    world.release(world.ask("a", 20))
    world.ready("a#1")
    world.seen("a#1")
    assert world.ask("b", 20, deadline=0.5) in world.refused()
    assert world.stopped() == []


def test_who_can_be_served_at_once_is_not_too_late_for_those_before() -> None:
    world = World(queue_depth=50)
    world.ask("a", 16, spread=2)
    world.ready("a#1")
    for _ in range(20):
        world.ask("b", 20)
    assert world.ask("a", 16, spread=2, deadline=0.5) in world.granted()


def test_a_deadline_that_passes_ends_the_wait_also_while_it_loads() -> None:
    world = World()
    ticket = world.ask("a", 2, deadline=5)
    world.tick(5.1)
    assert world.refused() == {ticket: "deadline"}


def test_who_waits_is_told_when_and_whom_for() -> None:
    world = World()
    for _ in range(3):  # it is learned how long a is held
        ticket = world.ask("a", 20)
        world.ready("a#1") if not world.granted() else None
        world.pass_time(40)
        world.release(ticket)
    world.ask("a", 20)
    waiting = world.ask("b", 20)
    progress = told(world, waiting)
    assert progress.waits_for == ("a#1",)
    assert progress.eta == pytest.approx(40, abs=10)
    world.pass_time(1000)
    world.tick(0)
    assert told(world, waiting).eta is not None, "one that is held longer than usual is expected to be so again"


def test_a_date_that_moved_is_told_again_but_not_every_second() -> None:
    world = World()
    first = world.ask("a", 20)
    world.ready("a#1")
    world.pass_time(50)
    world.release(first)
    world.ask("a", 20)
    waiting = world.ask("b", 20)
    before = len(world.all(ReportProgress))
    for _ in range(10):
        world.tick(1.1)
    assert len(world.all(ReportProgress)) == before, "it comes nearer as it was said to"
    world.tick(100)
    assert told(world, waiting).eta == pytest.approx(61 + 7, abs=8), "it is held for longer than the last was"


def test_a_small_one_goes_first_where_the_head_will_not_need_its_bytes() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    world.ask("a", 16)
    world.ready("a#1")
    head, small = world.ask("b", 20), world.ask("c", 4)
    world.ready("c#1")
    assert world.granted()[-1] == small, "when a ends, 24 are free and 20 wanted: 4 are over"
    assert world.waiting() == [head]
    assert world.state.counts["backfilled"] == 1


def test_a_small_one_does_not_go_first_where_that_would_put_off_the_heads_date() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    world.ask("a", 16)
    world.ready("a#1")
    head, small = world.ask("b", 20), world.ask("c", 5)
    assert world.waiting() == [head, small]


def test_small_ones_together_take_no_more_than_is_over() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    world.ask("a", 16)
    world.ready("a#1")
    world.ask("b", 20)
    world.ask("c", 3)
    second = world.ask("d", 3)
    assert world.started() == ["a#1", "c#1"]
    assert second in world.waiting()


def test_on_another_device_everybody_may_go_first() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=8 * GIB)})
    world.ask("a", {"x": 20})
    world.ready("a#1")
    world.ask("b", {"x": 20})
    world.ask("c", {"x": 8, "y": 8})
    assert world.instance("c#1").demand == {"y": 8 * GIB}


def test_a_head_that_waits_for_others_than_us_holds_up_nobody() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, foreign=10 * GIB)})
    world.ask("a", 20)
    world.ask("b", 8)
    assert world.started() == ["b#1"], "nothing can be said of when the foreign memory comes free"


def test_a_client_that_dies_leaves_nothing_of_its_request() -> None:
    world = World(quotas={1: Quota(max_waiting=1)})
    world.ask("a", 20)
    world.ask("b", 20, uid=1, connection=9, deadline=900, wait=800)
    world.leave(9)
    assert world.waiting() == []
    assert world.state.shares.by_uid[1].waiting == 0
    assert world.ask("c", 20, uid=1) in world.waiting()
    assert not any(isinstance(x, RefuseLease) for x in world.tick(900)), "and none of its alarms goes off"


def test_who_is_over_a_quota_does_not_hold_up_those_behind_when_room_comes_free() -> None:
    world = World(quotas={1: Quota(max_leases=1)})
    world.ask("a", 8, uid=1)
    filler = world.ask("f", 16, uid=3)
    world.ready("a#1")
    world.ready("f#1")
    world.ask("b", 4, uid=1)
    world.ask("c", 16, uid=2)
    world.release(filler)
    world.seen("f#1")
    world.gone("f#1")
    assert world.started() == ["a#1", "f#1", "c#1"]


def test_small_ones_that_are_looked_at_together_take_no_more_than_is_over() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    world.ask("a", 16)
    world.ask("f", 8, connection=7)
    world.ready("a#1")
    world.ready("f#1")
    head, one, two = world.ask("b", 20), world.ask("c", 3), world.ask("d", 3)
    world.gone("f#1")
    assert world.started()[2:] == ["c#1"]
    assert world.waiting() == [head, two]
    world.ready("c#1")
    assert one in world.granted()


def test_one_that_does_nothing_is_expected_to_be_free_by_its_idle_timeout() -> None:
    world = World()
    world.state.expectations.holds["a"] = 1000.0
    world.ask("a", 20, idle_timeout=50)
    world.ready("a#1")
    waiting = world.ask("b", 20)
    assert told(world, waiting).eta == pytest.approx(50 + 7, abs=3)


def test_a_lease_that_is_older_than_usual_is_expected_to_last_as_long_again() -> None:
    world = World()
    world.state.expectations.holds["a"] = 10.0
    world.ask("a", 20)
    world.ready("a#1")
    world.pass_time(200)
    world.seen("a#1", busy=True, worked=True)
    waiting = world.ask("b", 20)
    assert told(world, waiting).eta == pytest.approx(190 + 7, abs=3)


def test_a_groups_quota_binds_its_members_together() -> None:
    world = World(group_quotas={7: Quota(max_leases=2, max_bytes=12 * GIB)})
    first, second = world.ask("a", 4, uid=1, gids=(7,)), world.ask("b", 4, uid=2, gids=(7, 8))
    third, other = world.ask("c", 4, uid=3, gids=(7,)), world.ask("d", 4, uid=4, gids=(8,))
    for name in ("a#1", "b#1", "d#1"):
        world.ready(name)
    assert world.granted() == [first, second, other]
    assert world.waiting() == [third], "its group has two leases already"
    told = [x.waits_for for x in world.log if isinstance(x, ReportProgress) and x.ticket == third and x.position]
    assert told[-1] == ("group 7 has 2 of at most 2 leases",)
    world.happen(LeaseReleased(at=world.now, lease=lease_of(first)))
    world.seen("a#1")
    world.ready("c#1")
    assert third in world.granted()
    large = world.ask("e", 13, uid=1, gids=(7,))
    assert world.refused()[large] == "over_quota", "more than the group may ever have"
