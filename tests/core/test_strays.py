"""Who keeps an instance busy without a lease on it: it counts for the quota, and makes way after the grace."""

from __future__ import annotations

import pytest
from core.world import GIB, Gpu, World

from lmxd.core.books.alarms import AlarmKind, Alarms
from lmxd.core.decisions import CheckActivity, ReportProgress
from lmxd.core.rules import Quota
from lmxd.core.words import InstanceId


def leave(world: World, model: str, uid: int = 1, *, busy: bool = True, **more: object) -> str:
    """A user is served, releases the lease, and goes on talking to the instance."""
    ticket = world.ask(model, 8, uid=uid, **more)  # type: ignore[arg-type]
    name = world.started()[-1]
    world.ready(name)
    world.release(ticket)
    world.seen(name, busy=busy)
    return name


@pytest.mark.parametrize("priority", [-1, 0, 100])
def test_an_instance_that_is_left_busy_ends_for_a_waiter_after_the_grace(priority: int) -> None:
    world = World({"gpu": Gpu(capacity=16 * GIB)}, grace=60.0)
    left = [leave(world, "a"), leave(world, "b")]
    waits = world.ask("c", 16, uid=2, priority=priority)
    for _ in range(59):
        world.tick(1.0)
        for name in left:
            world.seen(name, busy=True)
    assert world.stopped() == [], "it may finish what it was asked, with or without a lease"
    for _ in range(2):
        world.tick(1.0)
    assert world.stopped() == [("a#1", "evicted"), ("b#1", "evicted")]
    for name in left:
        world.gone(name)
    world.ready("c#1")
    assert world.granted()[-1] == waits


def test_without_a_waiter_it_goes_on() -> None:
    world = World(grace=60.0)
    name = leave(world, "a")
    for _ in range(100):
        world.tick(10.0)
        world.seen(name, busy=True)
    assert world.stopped() == []


def test_who_is_merely_connected_is_work_for_seconds_without_a_lease() -> None:
    """Else a silent connection, of a former holder or an outsider, keeps an instance for ever."""
    world = World(grace=60.0)
    name = leave(world, "a")
    world.tick(14.0)
    world.seen(name, busy=True, guessed=True)
    assert world.instance(name).busy
    world.tick(2.0)
    world.seen(name, busy=True, guessed=True)
    assert not world.instance(name).busy
    world.seen(name, busy=True)
    assert world.instance(name).busy, "it is seen to be served"


def test_who_is_merely_connected_is_work_as_long_as_there_is_a_lease() -> None:
    world = World()
    world.ask("a", 8)
    world.ready("a#1")
    world.tick(100.0)
    world.seen("a#1", busy=True, guessed=True)
    assert world.instance("a#1").busy


def test_a_waiter_is_told_when_it_ends() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)}, grace=60.0)
    leave(world, "a")
    world.ask("b", 8, uid=2)
    told = world.last(ReportProgress)
    assert told.waits_for == ("a#1",)
    assert told.eta == pytest.approx(60, abs=6)


def test_a_device_that_is_short_and_a_drain_end_it_after_the_grace_too() -> None:
    from lmxd.core.orders import DrainRequested

    for event in ("drain", "yield"):
        world = World(grace=10.0)
        name = leave(world, "a")
        if event == "drain":
            world.happen(DrainRequested(at=world.now))
        else:
            world.give_way(23 * GIB, 600.0)
        world.tick(1.0)
        world.seen(name, busy=True)
        assert world.stopped() == []
        world.tick(10.0)
        assert [instance for instance, _ in world.stopped()] == [name], event


@pytest.mark.parametrize("quota", [Quota(max_leases=2), Quota(max_bytes=20 * GIB)])
def test_it_counts_for_the_quota_of_who_used_it_last(quota: Quota) -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: quota}, grace=60.0)
    for model in "ab":
        leave(world, model)
    over = world.ask("c", 8, uid=1)
    assert world.waiting() == [over]
    assert world.started() == ["a#1", "b#1"]
    other = world.ask("c", 8, uid=2)
    world.ready("c#1")
    assert other in world.granted(), "others are not held up"
    world.seen("a#1")
    assert world.started()[-1] == "c#2", "it is done, and counts no more"


def test_nobody_comes_to_more_than_the_quota_by_releasing_and_asking_again() -> None:
    """Whatever the engines say, and however fast: at no time has the user more instances that are not known idle."""
    world = World({"gpu": Gpu(capacity=800 * GIB)}, quotas={1: Quota(max_leases=4)}, grace=60.0)
    for n in range(40):
        ticket = world.ask(f"m{n}", 8, uid=1, wait=0 if n % 2 else None)
        for name in list(world.state.instances):
            if world.instance(name).ready_at is None:
                world.ready(name)
        if ticket in world.granted():
            world.release(ticket)
        if n % 3 == 0:
            for name in list(world.state.instances):
                world.seen(name, busy=True)
        assert len([i for i in world.state.instances.values() if i.live]) <= 4
        assert world.state.shares.by_uid[1].leases <= 4


def test_a_release_is_looked_into_at_once_where_a_quota_binds() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=1)})
    first = world.ask("a", 8, uid=1)
    world.ready("a#1")
    world.release(first)
    assert world.last(CheckActivity).instance == "a#1"
    second = world.ask("b", 8, uid=1, wait=0)
    assert world.refused() == {}, "it is known in a moment whether the lease counts still"
    world.seen("a#1")
    assert world.started()[-1] == "b#1"
    world.ready("b#1")
    assert world.granted() == [first, second]


def test_who_would_not_wait_is_refused_when_it_turns_out_busy() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=1)})
    leave(world, "a")
    ticket = world.ask("b", 8, uid=1, wait=0)
    assert world.refused() == {ticket: "over_quota"}


def test_its_own_user_has_it_back_within_the_quota() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=1, max_bytes=8 * GIB)})
    leave(world, "a")
    again = world.ask("a", 8, uid=1, wait=0)
    assert again in world.granted()
    assert world.started() == ["a#1"]


def test_a_quota_used_up_by_strays_is_free_after_the_grace() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=1)}, grace=60.0)
    name = leave(world, "a")
    world.ask("b", 8, uid=1)
    world.tick(30.0)
    world.seen(name, busy=True)
    assert world.stopped() == []
    world.tick(31.0)
    world.tick(1.0)
    assert world.stopped() == [(name, "evicted")]
    assert world.started()[-1] == "b#1"


def test_who_comes_back_with_old_keys_has_no_more_than_the_quota() -> None:
    """Instances that were seen idle count no more, until their last user has them work again."""
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={1: Quota(max_leases=2)}, grace=60.0)
    for model in "abc":
        leave(world, model, busy=False)
    for name in ("a#1", "b#1"):
        world.seen(name, busy=True)
    assert world.stopped() == [], "as many as it may have leases"
    world.seen("c#1", busy=True)
    assert world.stopped() == [("c#1", "evicted")], "the third is ended as it is"
    world.seen("a#1")
    held = world.ask("d", 8, uid=1)
    world.ready("d#1")
    assert held in world.granted()
    world.seen("a#1", busy=True)
    assert world.stopped()[-1] == ("a#1", "evicted")
    assert world.state.shares.by_uid[1].leases == 2


def test_another_user_gets_it_only_when_nothing_was_left_behind() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)}, grace=60.0)
    first = world.ask("a", 8, uid=1)
    world.ready("a#1")
    world.release(first)
    second = world.ask("a", 8, uid=2, wait=0)
    assert world.last(CheckActivity).instance == "a#1"
    assert world.refused() == {}
    world.seen("a#1")
    assert world.granted() == [first, second]


def test_another_user_of_the_same_model_is_not_put_behind_a_generation_without_a_lease() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)}, grace=60.0)
    name = leave(world, "a")
    waits = world.ask("a", 8, uid=2, max_instances=1)
    for _ in range(61):
        world.tick(1.0)
        if world.instance(name).live:
            world.seen(name, busy=True)
    assert world.stopped() == [(name, "evicted")]
    world.gone(name)
    world.ready("a#2")
    assert world.granted()[-1] == waits, "with a key that the other does not have"


def test_alarms_that_are_moved_for_ever_take_no_more_room() -> None:
    alarms = Alarms()
    for n in range(100_000):
        alarms.set((AlarmKind.LEASE, InstanceId("l")), float(n))
    assert len(alarms) < 2000
    assert alarms.next() == 99_999.0


def shared_by_two(world: World) -> str:
    """Users 1 and 2 are served by one instance, one after the other, and it was idle after both."""
    name = leave(world, "a", uid=1, busy=False)
    ticket = world.ask("a", 8, uid=2)
    world.release(ticket)
    world.seen(name)
    return name


def test_a_former_user_at_work_again_is_not_charged_to_the_last_one() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={2: Quota(max_leases=1)}, grace=60.0)
    name = shared_by_two(world)
    world.seen(name, busy=True)
    assert (world.stopped(), world.state.shares.by_uid[2].leases) == ([], 0)
    served = world.ask("b", 8, uid=2)
    assert world.started()[-1] == "b#1"
    world.ready("b#1")
    assert served in world.granted()


@pytest.mark.parametrize("waits_first", [True, False])
def test_it_is_ended_at_once_for_the_first_that_waits(waits_first: bool) -> None:
    world = World({"gpu": Gpu(capacity=16 * GIB)}, grace=60.0)
    other = world.ask("c", 8, uid=3)
    world.ready("c#1")
    name = shared_by_two(world)
    world.pass_time(30.0)
    if waits_first:
        world.instance(name).checked_at = None
    for waiter in (lambda: world.seen(name, busy=True), lambda: world.ask("b", 8, uid=2))[:: -1 if waits_first else 1]:
        waiter()
    assert world.stopped() == [(name, "evicted")]
    assert other in world.granted()


def test_what_the_last_user_left_behind_is_charged_until_it_is_done() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)}, quotas={2: Quota(max_leases=1)}, grace=60.0)
    name = leave(world, "a", uid=1, busy=False)
    ticket = world.ask("a", 8, uid=2)
    world.release(ticket)
    world.seen(name, busy=True)
    waits = world.ask("b", 8, uid=2)
    assert world.waiting() == [waits]
    world.seen(name)
    assert world.started()[-1] == "b#1"
