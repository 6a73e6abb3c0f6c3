"""Stories of growth: a lease moves to an instance with more context, and its conversation goes along."""

from __future__ import annotations

from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import (
    CarryConversation,
    CheckActivity,
    EndLease,
    MoveLease,
    RefuseLease,
    ReportProgress,
    StartInstance,
)
from lmxd.core.events import GrowthRequested, LeaseRenewed
from lmxd.core.moves import Carry
from lmxd.core.orders import DrainRequested
from lmxd.core.reasons import EndReason
from lmxd.core.rules import Quota
from lmxd.core.words import ConnectionId, Failure, Hold, InstanceId, TicketId

CRASHED = Failure(code="crashed", message="it crashed")


def small(world: World, gib: float = 8, load: float = 0, **more: Any) -> str:
    """A lease on an instance of the first step, which is ready."""
    ticket = world.ask("m", gib, elastic=True, **more)
    if not world.state.leases.get(lease_of(ticket)):
        world.tick(load)
        world.ready(world.last(StartInstance).instance)
    assert lease_of(ticket) in world.state.leases
    return ticket


def test_a_lease_moves_to_a_larger_instance_beside_the_old_one_and_its_conversation_goes_along() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 12, slot=0)
    assert world.started() == ["m#1", "m#2"]
    assert world.headroom() == 4, "both count while both live"
    assert world.last(ReportProgress).ticket == growth
    assert world.home(lease) == "m#1", "it is served there until the conversation is carried"
    world.ready("m#2")
    asked = world.last(CarryConversation)
    assert (asked.ticket, asked.lease, asked.instance) == (growth, lease_of(lease), "m#2")
    assert asked.carries == (Carry(instance=InstanceId("m#1"), slot=0),)
    assert world.moves() == []
    world.carried(growth, 0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", 0)]
    assert world.home(lease) == "m#2"
    assert world.granted() == [lease], "no lease is granted by a move"
    assert not world.all(EndLease)


def test_the_old_instance_of_one_slot_ends_once_its_engine_says_that_it_is_idle() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease)
    world.ready("m#2")
    world.carried(growth)
    assert world.last(CheckActivity).instance == "m#1"
    world.seen("m#1", busy=True)
    assert world.stopped() == []
    world.tick(1)
    world.seen("m#1")
    assert world.stopped() == [("m#1", "grown")]
    world.gone("m#1")
    assert world.headroom() == 12


def test_an_old_instance_that_is_wanted_again_before_it_ends_stays() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease)
    world.ready("m#2")
    world.carried(growth)
    other = small(world)
    assert world.home(other) == "m#1"
    world.seen("m#1")
    world.release(other)
    world.tick(1)
    world.seen("m#1")
    assert world.stopped() == []


def test_a_pinned_old_instance_stays() -> None:
    world = World()
    lease = small(world, pin=True)
    growth = world.grow(lease)
    world.ready("m#2")
    world.carried(growth)
    world.seen("m#1")
    assert world.stopped() == []


def test_an_old_instance_with_more_slots_keeps_its_other_leases_and_stays() -> None:
    world = World()
    first, second = small(world, spread=2), small(world, spread=2)
    third = world.ask("m", 8, elastic=True, spread=2, wait=None, max_instances=1)
    growth = world.grow(first, 12, slot=1)
    world.ready("m#2")
    world.carried(growth, 0)
    assert world.home(second) == "m#1"
    assert world.home(first) == "m#2"
    assert world.home(third) == "m#1", "the slot that came free serves who waits for one"
    world.release(second)
    world.release(third)
    world.seen("m#1")
    assert world.stopped() == []


def test_a_free_slot_of_a_larger_instance_that_runs_takes_no_bytes() -> None:
    world = World({"gpu": Gpu(capacity=20 * GIB)})
    large = world.ask("m", 12, context=16384, spread=2, elastic=True)
    world.ready("m#1")
    lease = small(world)
    assert world.home(lease) == "m#1", "it has room for short ones, too"
    world.release(lease)
    other = world.ask("m", 8, elastic=True, share=False)
    world.ready("m#2")
    growth = world.grow(other, 12, share=True)
    assert world.last(CarryConversation).instance == "m#1"
    world.carried(growth, 1)
    assert world.home(other) == world.home(large) == "m#1"
    assert world.started() == ["m#1", "m#2"]


@pytest.mark.parametrize("spread", [1, 2])
def test_what_a_lease_leaves_by_moving_at_once_serves_those_who_wait(spread: int) -> None:
    """One slot that came free serves two: the growth has it, and who stands behind has the slot of before."""
    world = World({"gpu": Gpu(capacity=20 * GIB)})
    holders = [small(world, spread=spread) for _ in range(spread)]
    large = [world.ask("m", 12, context=16384, spread=1, elastic=True)]
    world.ready("m#2")
    growth = world.grow(holders[0], 12, slot=None)
    behind = world.ask("m", 8, elastic=True, spread=2)
    assert world.waiting() == [growth, behind]
    world.release(large[0])
    world.seen("m#2")
    assert world.moves() == [(lease_of(holders[0]), "m#1", "m#2", None)]
    assert world.home(behind) == "m#1"


def test_an_instance_that_is_left_by_moving_at_once_is_looked_at_at_once() -> None:
    world = World({"gpu": Gpu(capacity=20 * GIB)})
    lease = small(world)
    large = world.ask("m", 12, context=16384, elastic=True)
    world.ready("m#2")
    world.grow(lease, 12, slot=None)
    world.release(large)
    world.seen("m#2")
    assert world.home(lease) == "m#2"
    assert world.last(CheckActivity).instance == "m#1"
    world.seen("m#1")
    assert world.stopped() == [("m#1", "grown")]


def test_a_conversation_that_cannot_be_carried_is_processed_anew() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease)
    world.ready("m#2")
    world.carried(growth, None)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", None)]


def test_a_lease_whose_slot_is_unknown_moves_at_once() -> None:
    world = World()
    lease = small(world)
    world.grow(lease, slot=None)
    world.ready("m#2")
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", None)]
    assert not world.all(CarryConversation)


def test_a_conversation_that_is_on_its_way_for_too_long_is_processed_anew() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease)
    world.ready("m#2")
    world.tick(29)
    assert world.moves() == []
    world.tick(1)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", None)]
    world.carried(growth, 0)
    assert len(world.all(MoveLease)) == 1, "a late report changes nothing"


def test_a_lease_whose_instance_has_enough_context_is_answered_at_once() -> None:
    world = World()
    lease = small(world, context=16384)
    growth = world.grow(lease, context=16384, slot=0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#1", 0)]
    assert world.answered[growth] == 1
    assert world.started() == ["m#1"]


def test_a_lease_grows_by_two_steps_in_a_row() -> None:
    world = World({"gpu": Gpu(capacity=48 * GIB)})
    lease = small(world)
    for step, (gib, context) in enumerate(((12, 16384), (20, 65536)), start=2):
        growth = world.grow(lease, gib, context=context)
        world.ready(f"m#{step}")
        world.carried(growth)
        world.seen(f"m#{step - 1}")
        world.gone(f"m#{step - 1}")
        assert world.home(lease) == f"m#{step}"
    assert world.headroom() == 28
    assert world.stopped() == [("m#1", "grown"), ("m#2", "grown")]


def test_a_growth_of_a_lease_whose_end_was_not_heard_of_yet_is_refused() -> None:
    world = World()
    lease = small(world)
    owner, ask = world.state.leases[lease_of(lease)].owner, world.instance("m#1").ask
    world.release(lease)
    event = GrowthRequested(at=world.now, ticket=TicketId("late"), lease=lease_of(lease), owner=owner, ask=ask)
    (refusal,) = [d for d in world.admission.handle(event).decisions if isinstance(d, RefuseLease)]
    assert (refusal.ticket, refusal.refusal.code) == ("late", "cancelled")


def test_a_growth_that_is_asked_again_has_the_place_of_the_first() -> None:
    world = World()
    lease = small(world)
    first = world.grow(lease)
    second = world.grow(lease)
    assert world.refused() == {first: "cancelled"}
    world.ready("m#2")
    world.carried(second)
    assert world.home(lease) == "m#2"
    assert world.started() == ["m#1", "m#2"], "the instance that starts serves the second"


# no room


def test_a_growth_evicts_an_idle_instance_of_another_model() -> None:
    world = World()
    other = world.ask("other", 10)
    world.ready("other#1")
    world.release(other)
    lease = small(world)
    world.tick(60)
    growth = world.grow(lease, 15)
    world.seen("other#1")
    assert world.stopped() == [("other#1", "evicted")]
    world.gone("other#1")
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_growth_waits_in_the_queue_with_a_date_and_its_lease_works_on() -> None:
    world = World()
    busy = world.ask("other", 10)
    world.ready("other#1")
    lease = small(world)
    growth = world.grow(lease, 15)
    told = world.last(ReportProgress)
    assert (told.ticket, told.position) == (growth, 1)
    assert told.waits_for == ("other#1",), "its own instance is not what it waits for"
    assert told.eta is not None
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(lease)))
    world.release(busy)
    world.tick(60)
    world.seen("other#1")
    world.gone("other#1")
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_the_instance_of_a_growth_is_not_to_make_way_for_it() -> None:
    world = World()
    world.ask("other", 4)
    world.ready("other#1")
    lease = small(world, 11)
    growth = world.grow(lease, 12)
    for _ in range(60):
        world.seen("m#1", busy=True, worked=True)
        world.seen("other#1", busy=True, worked=True)
        world.tick(1)
    assert world.waiting() == [growth]
    assert world.instance("m#1").swap is None
    assert world.home(lease) == "m#1"


def test_those_behind_a_growth_that_waits_are_served_with_what_it_does_not_need() -> None:
    world = World()
    world.ask("other", 10)
    world.ready("other#1")
    lease = small(world)
    world.grow(lease, 15)
    little = world.ask("little", 1)
    world.ready(world.last(StartInstance).instance)
    assert little in world.granted()


def test_a_growth_that_never_fits_beside_its_pinned_instance_is_refused_alone() -> None:
    world = World()
    lease = small(world, 10, pin=True)
    growth = world.grow(lease, 16)
    refusal = world.last(RefuseLease).refusal
    assert world.refused() == {growth: "never_fits"}
    assert "never fits beside m#1, which is pinned" in refusal.message
    assert "make a new request" in refusal.remedy
    assert world.home(lease) == "m#1"


def test_two_growths_of_pinned_instances_that_wait_for_each_other_do_not_wait_for_ever() -> None:
    world = World()
    first, second = small(world, share=False, pin=True), small(world, share=False, pin=True)
    one, two = world.grow(first, 12), world.grow(second, 12)
    refusal = world.last(RefuseLease).refusal
    assert world.refused() == {two: "no_capacity"}
    assert "beside m#1, whose leases wait to grow, too" in refusal.message
    assert world.waiting() == [one]
    assert world.home(second) == "m#2"


def test_a_growth_that_waits_for_one_that_can_be_served_waits() -> None:
    world = World({"gpu": Gpu(capacity=26 * GIB)})
    first, second = small(world, 7, share=False), small(world, 7, share=False)
    one = world.grow(first, 11)
    two = world.grow(second, 12, context=65536)
    assert world.waiting() == [two]
    world.ready("m#3")
    world.carried(one)
    world.seen("m#1")
    world.gone("m#1")
    assert world.refused() == {}
    assert world.waiting() == [two], "7 of the second, 11 of the first: it waits until that lease ends"
    world.release(first)
    world.tick(60)
    world.seen("m#3")
    world.gone("m#3")
    world.ready("m#4")
    world.carried(two)
    assert world.home(second) == "m#4"


def test_a_growth_passes_a_request_that_waits_for_the_bytes_of_its_lease() -> None:
    world = World()
    lease = small(world)
    large = world.ask("large", 20)
    assert world.waiting() == [large]
    growth = world.grow(lease, 12)
    assert world.waiting() == [large]
    assert world.started()[-1] == "m#2"
    world.ready("m#2")
    world.carried(growth)
    world.seen("m#1")
    world.gone("m#1")
    world.release(lease)
    world.tick(60)
    world.seen("m#2")
    world.gone("m#2")
    assert world.started()[-1] == "large#1"


def test_a_growth_that_fits_no_device_is_refused_alone() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 30)
    assert world.refused() == {growth: "never_fits"}
    assert world.home(lease) == "m#1"


def test_a_growth_that_waits_is_refused_once_it_never_fits_any_more() -> None:
    world = World()
    world.ask("other", 10)
    world.ready("other#1")
    lease = small(world, pin=True)
    growth = world.grow(lease, 14)
    assert world.waiting() == [growth]
    world.devices["gpu"].processes["m#1"] = 11 * GIB
    world.measure()
    world.tick(1)
    assert world.refused() == {growth: "never_fits"}
    assert world.home(lease) == "m#1"


@pytest.mark.parametrize(
    ("how", "code"),
    [({"wait": 0.0}, "no_capacity"), ({"wait": 5.0}, "wait_expired"), ({"deadline": 5.0}, "deadline")],
)
def test_a_growth_that_would_not_wait_any_longer_is_refused_alone(how: dict[str, Any], code: str) -> None:
    world = World()
    world.ask("other", 10)
    world.ready("other#1")
    lease = small(world)
    growth = world.grow(lease, 15, **how)
    world.tick(6)
    assert world.refused() == {growth: code}
    assert world.home(lease) == "m#1"
    again = world.grow(lease, 2)
    world.ready("m#2")
    world.carried(again)
    assert world.home(lease) == "m#2"


def test_room_that_vanishes_while_a_growth_waits_leaves_the_lease_where_it_is() -> None:
    world = World()
    busy = world.ask("other", 10)
    world.ready("other#1")
    lease = small(world)
    growth = world.grow(lease, 12)
    world.devices["gpu"].foreign = 10 * GIB
    world.release(busy)
    world.tick(60)
    world.seen("other#1")
    if "other#1" in world.state.instances:
        world.gone("other#1")
    world.tick(2)
    assert world.waiting() == [growth]
    assert world.home(lease) == "m#1"
    world.devices["gpu"].foreign = 0
    world.measure()
    world.tick(1)
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_max_instances_does_not_hold_a_growth_up() -> None:
    world = World()
    lease = small(world, max_instances=1)
    world.grow(lease, 12)
    assert world.started() == ["m#1", "m#2"]


def test_a_small_elastic_instance_does_not_make_way_for_a_large_request_of_its_model() -> None:
    world = World()
    lease = small(world, max_instances=1)
    world.ask("m", 12, context=16384, elastic=True, max_instances=1)
    assert world.started() == ["m#1", "m#2"], "the limit bounds each step"
    assert world.home(lease) == "m#1"


def test_an_instance_is_not_reaped_while_its_lease_waits_to_grow() -> None:
    world = World()
    world.ask("other", 10, idle_timeout=1e6)
    world.ready("other#1")
    lease = small(world, idle_timeout=30)
    growth = world.grow(lease, 12)
    world.tick(100)
    world.seen("m#1")
    assert world.home(lease) == "m#1"
    world.cancel(growth)
    world.tick(20)
    world.seen("m#1")
    assert world.home(lease) == "m#1", "its time begins anew when the growth is over"
    world.tick(20)
    world.seen("m#1")
    assert world.stopped() == [("m#1", "idle")]


def test_an_instance_is_not_reaped_while_a_conversation_is_carried_to_it() -> None:
    world = World()
    large = world.ask("m", 12, context=16384, elastic=True, idle_timeout=5)
    world.ready("m#1")
    lease = world.ask("m", 8, elastic=True)
    world.ready("m#2")
    world.release(large)
    world.tick(4)
    growth = world.grow(lease, 12)
    assert world.last(CarryConversation).instance == "m#1"
    world.tick(20)
    world.seen("m#1")
    world.carried(growth)
    assert world.home(lease) == "m#1"


# something ends meanwhile: in the queue, while the larger instance starts, or while the conversation is carried

PHASES = ("waits", "starts", "carries")


def growing(phase: str, **more: Any) -> tuple[World, str, str]:
    """A lease of 8 GiB that grows to 12, and so far it has come."""
    world = World()
    if phase == "waits":
        world.ask("other", 10, connection=77)
        world.ready("other#1")
    lease = small(world, **more)
    growth = world.grow(lease, 12, connection=99)
    if phase == "carries":
        world.ready("m#2")
    return world, lease, growth


def at_rest(world: World) -> None:
    """Nothing of a growth is left over, and what was started for it goes when others need its bytes."""
    assert not world.state.tickets
    assert all(x.growing is None for x in world.state.leases.values())
    world.tick(60)
    if "other#1" in world.state.instances:
        world.leave(77)
        world.seen("other#1")
    world.ask("all", 24, wait=None)
    for _ in range(4):
        for instance in list(world.state.instances.values()):
            if instance.vacant and instance.live:
                world.seen(instance.id)
            if instance.ends:
                world.gone(instance.id)
        world.tick(1)


@pytest.mark.parametrize("phase", PHASES)
def test_a_growth_that_is_cancelled_leaves_the_lease_where_it_is(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.cancel(growth)
    assert world.refused() == {growth: "cancelled"}
    assert world.home(lease) == "m#1"
    world.carried(growth, 0)
    assert world.home(lease) == "m#1", "a late report changes nothing"
    world.release(lease)
    at_rest(world)
    assert world.started()[-1] == "all#1"


@pytest.mark.parametrize("phase", PHASES)
def test_a_connection_that_only_asked_for_growth_takes_the_growth_with_it(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.leave(99)
    assert world.refused() == {growth: "client_left"}
    assert world.home(lease) == "m#1"


@pytest.mark.parametrize("phase", PHASES)
def test_a_lease_that_is_released_while_it_grows_takes_the_growth_with_it(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.release(lease)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.RELEASED
    world.carried(growth, 0)
    at_rest(world)
    assert world.started()[-1] == "all#1"


@pytest.mark.parametrize("phase", PHASES)
def test_a_holder_whose_connection_closes_while_it_grows_has_neither_lease_nor_growth(phase: str) -> None:
    world, lease, growth = growing(phase, connection=5)
    world.leave(5)
    assert world.refused() == {growth: "cancelled"}
    assert lease_of(lease) not in world.state.leases
    at_rest(world)


@pytest.mark.parametrize("phase", PHASES)
def test_a_lease_whose_ttl_is_over_ends_though_it_grows(phase: str) -> None:
    world, _, growth = growing(phase, hold=Hold.TTL, ttl=10.0)
    world.tick(11)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.TTL_EXPIRED
    at_rest(world)


def test_a_ttl_goes_on_after_a_move() -> None:
    world, lease, growth = growing("carries", hold=Hold.TTL, ttl=10.0)
    world.tick(4)
    world.carried(growth)
    world.tick(5)
    assert lease_of(lease) in world.state.leases
    world.tick(2)
    assert world.last(EndLease).reason is EndReason.TTL_EXPIRED


@pytest.mark.parametrize("phase", PHASES)
def test_an_instance_that_dies_under_a_lease_that_grows_ends_both(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.exited("m#1", CRASHED)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.INSTANCE_EXITED
    assert lease_of(lease) not in world.state.leases
    world.measure()
    at_rest(world)


@pytest.mark.parametrize("phase", ["starts", "carries"])
def test_a_larger_instance_that_dies_leaves_the_lease_where_it_is(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.exited("m#2", CRASHED)
    assert world.refused() == {growth: "launch_failed"}
    assert world.last(RefuseLease).refusal.message == "it crashed"
    assert world.home(lease) == "m#1"
    assert not world.all(EndLease)


def test_a_step_that_failed_to_load_is_not_tried_again_at_once() -> None:
    world, lease, _ = growing("starts")
    world.exited("m#2", CRASHED)
    again = world.grow(lease, 12)
    assert world.refused()[again] == "launch_failed"
    assert world.home(lease) == "m#1"


@pytest.mark.parametrize("phase", ["starts", "carries"])
def test_a_larger_instance_that_an_administrator_stops_leaves_the_lease_where_it_is(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.stop("m#2")
    assert world.refused() == {growth: "stopped"}
    assert world.home(lease) == "m#1"


@pytest.mark.parametrize("phase", PHASES)
def test_an_instance_that_an_administrator_stops_under_a_lease_that_grows_ends_both(phase: str) -> None:
    world, _, growth = growing(phase)
    world.stop("m#1")
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.STOPPED_BY_ADMIN


def test_a_drain_refuses_growths_that_wait_and_begins_none() -> None:
    world, lease, growth = growing("waits")
    world.happen(DrainRequested(at=world.now))
    assert world.refused() == {growth: "draining"}
    again = world.grow(lease)
    assert world.refused()[again] == "draining"
    assert world.home(lease) == "m#1"


def test_a_growth_that_is_on_its_way_is_not_stopped_by_a_drain() -> None:
    world, lease, growth = growing("carries")
    world.happen(DrainRequested(at=world.now))
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_deadline_that_passes_while_a_conversation_is_carried_refuses_the_growth_alone() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 12, deadline=20.0)
    world.ready("m#2")
    world.tick(21)
    assert world.refused() == {growth: "deadline"}
    assert world.home(lease) == "m#1"


def test_a_holder_that_must_yield_its_instance_loses_lease_and_growth() -> None:
    world = World(grace=5.0, preempt=True)
    lease = small(world)
    world.ask("other", 10, priority=5)
    world.ready("other#1")
    growth = world.grow(lease, 12)
    world.ask("urgent", 14, priority=9)
    for _ in range(8):
        for instance in list(world.state.instances.values()):
            if instance.leases:
                world.seen(instance.id)
        world.tick(1)
    assert ("m#1", "preempted") in world.stopped()
    assert world.refused()[growth] == "cancelled"
    assert lease_of(lease) not in world.state.leases


# quotas and users


def test_a_growth_takes_the_place_of_its_own_lease_in_a_quota() -> None:
    world = World(quotas={1000: Quota(max_leases=1, max_bytes=12 * GIB)})
    lease = small(world)
    growth = world.grow(lease, 12)
    world.ready("m#2")
    world.carried(growth)
    world.seen("m#1")
    assert world.home(lease) == "m#2"
    share = world.state.shares.by_uid[1000]
    assert (share.leases, share.bytes) == (1, 12 * GIB)


def test_a_growth_beyond_a_quota_waits_until_another_lease_of_its_user_ends() -> None:
    world = World(quotas={1000: Quota(max_bytes=16 * GIB)})
    lease, other = small(world, 6), world.ask("other", 4)
    world.ready("other#1")
    allowed = world.grow(lease, 12)
    assert world.waiting() == []
    world.cancel(allowed)
    world.exited("m#2", CRASHED)
    world.measure()
    growth = world.grow(lease, 13, context=65536)
    assert world.waiting() == [growth]
    assert world.last(ReportProgress).waits_for[0].startswith("uid 1000 holds")
    world.release(other)
    world.seen("other#1")
    assert world.waiting() == []


def test_growths_that_wait_for_each_others_part_of_a_quota_do_not_wait_for_ever() -> None:
    world = World({"gpu": Gpu(capacity=48 * GIB)}, quotas={1000: Quota(max_bytes=14 * GIB)})
    first, second = small(world, 6, share=False), small(world, 6, share=False)
    one, two = world.grow(first, 10), world.grow(second, 10)
    assert world.refused() == {two: "over_quota"}
    assert world.waiting() == [one]
    assert world.home(second) == "m#2"
    world.release(second)
    world.seen("m#2")
    assert world.waiting() == []


def test_nothing_is_ended_for_a_quota_that_is_exceeded_only_until_a_lease_has_moved() -> None:
    world = World(quotas={1000: Quota(max_bytes=16 * GIB)})
    other = world.ask("other", 3)
    world.ready("other#1")
    world.release(other)
    world.seen("other#1")
    lease = small(world)
    growth = world.grow(lease, 12)
    world.seen("other#1", busy=True, worked=True)
    assert world.stopped() == []
    world.ready("m#2")
    world.carried(growth)
    world.seen("m#1")
    world.seen("other#1", busy=True, worked=True)
    assert world.stopped() == [("m#1", "grown")]


def test_a_growth_that_no_quota_of_its_user_allows_is_refused() -> None:
    world = World(quotas={1000: Quota(max_bytes=10 * GIB)})
    lease = small(world)
    growth = world.grow(lease, 12)
    assert world.refused() == {growth: "over_quota"}
    assert world.home(lease) == "m#1"


def test_a_full_queue_holds_no_growth_up() -> None:
    world = World(queue_depth=1)
    world.ask("other", 10)
    world.ready("other#1")
    lease = small(world)
    waits = world.ask("more", 12)
    growth = world.grow(lease, 12)
    assert world.waiting() == [waits, growth]
    assert world.refused() == {}


@pytest.mark.parametrize("phase", PHASES)
def test_after_a_restart_a_growth_is_forgotten_and_the_lease_is_where_it_was(phase: str) -> None:
    world, lease, _ = growing(phase)
    world.restart()
    assert world.home(lease) == "m#1"
    assert world.state.leases[lease_of(lease)].growing is None
    assert not world.state.tickets
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(lease), connection=ConnectionId(7)))
    if phase == "waits":
        world.release("t1")
        world.tick(60)
    growth = world.grow(lease, 15)
    for instance in [i for i in world.state.instances.values() if i.vacant and i.live]:
        world.seen(instance.id)
    for instance in [i for i in world.state.instances.values() if i.ends]:
        world.gone(instance.id)
    if world.instance(world.state.tickets[growth].instance or "").ready_at is None:
        world.ready(world.started()[-1])
    world.carried(growth)
    assert world.home(lease) == world.last(MoveLease).instance != "m#1"


def test_after_a_restart_a_lease_that_has_moved_is_where_it_went() -> None:
    world, lease, growth = growing("carries")
    world.carried(growth)
    world.restart()
    assert world.home(lease) == "m#2"
    again = world.grow(lease, 12, context=16384)
    assert world.moves()[-1] == (lease_of(lease), "m#2", "m#2", 0)
    assert world.answered[again] == 1


@pytest.mark.parametrize("idle_timeout", [10.0, 300.0])
def test_after_a_restart_no_instance_ends_as_idle_before_its_holder_could_come_back(idle_timeout: float) -> None:
    """Such as one whose growth took that time, of which lmxd has forgotten."""
    world = World({"gpu": Gpu(capacity=16 * GIB)}, queue_depth=10)
    lease = world.ask("m", 8, elastic=True, idle_timeout=idle_timeout)
    world.ready("m#1")
    world.now += idle_timeout + 100
    world.restart()
    world.tick(min(idle_timeout, 30) - 1)
    world.seen("m#1")
    assert world.instance("m#1").live
    world.tick(2)
    world.seen("m#1")
    assert lease_of(lease) not in world.state.leases


def test_one_that_has_its_conversation_comes_first_and_where_it_has_no_slot_another_serves() -> None:
    world = World()
    both = [small(world), small(world)]
    assert [world.home(each) for each in both] == ["m#1", "m#2"]
    for each in both:
        world.release(each)
    for near in ("m#2", "m#1", "m#1", "m#2", "m#2"):
        ticket = world.ask("m", 8, elastic=True, near=near)
        assert world.home(ticket) == near
        world.release(ticket)
    held = world.ask("m", 8, elastic=True, near="m#2")
    other = world.ask("m", 8, elastic=True, near="m#2")
    assert (world.home(held), world.home(other)) == ("m#2", "m#1"), "nobody waits for the sake of a cache"
    world.release(other)
    gone = world.ask("m", 8, elastic=True, near="m#7")
    assert world.home(gone) == "m#1"


# beside conversations that go on


def going_on(gib: float = 20, load: float = 0) -> tuple[World, str]:
    """A lease on m#1, beside an instance of the next step, m#2, whose one slot has a conversation between two turns.

    ``load``: seconds that each took to load.
    """
    world = World({"gpu": Gpu(capacity=int(gib * GIB))})
    lease = small(world, 4, load, spread=2, max_instances=1)
    other = small(world, 8, load, context=16384)
    assert world.home(other) == "m#2"
    world.release(other)
    return world, lease


def test_a_growth_has_an_instance_of_its_own_where_the_slot_of_another_has_a_conversation_that_goes_on() -> None:
    world, lease = going_on()
    growth = world.grow(lease, 8, apart=["m#2"])
    assert world.started()[2:] == ["m#3"]
    world.ready("m#3")
    world.carried(growth)
    assert world.home(lease) == "m#3"


def test_it_shares_that_slot_where_there_is_no_room_for_another() -> None:
    world, lease = going_on(gib=16)
    growth = world.grow(lease, 8, apart=["m#2"])
    world.carried(growth)
    assert (world.home(lease), len(world.started())) == ("m#2", 2)
    assert world.stopped() == [], "nobody has room beside a conversation by the end of that"


def test_it_waits_for_that_slot_while_it_is_taken_and_there_is_no_room() -> None:
    world, lease = going_on(gib=16)
    other = small(world, 8, context=16384)
    growth = world.grow(lease, 8, apart=["m#2"])
    assert world.waiting() == [growth]
    world.release(other)
    world.carried(growth)
    assert (world.home(lease), world.started()) == ("m#2", ["m#1", "m#2"])


def test_it_takes_a_slot_of_which_nobody_says_that_its_conversation_goes_on() -> None:
    world, lease = going_on()
    growth = world.grow(lease, 8, apart=["m#1"])
    world.carried(growth)
    assert (world.home(lease), world.started()) == ("m#2", ["m#1", "m#2"])


def test_an_idle_instance_of_another_model_ends_for_it_first() -> None:
    world, lease = going_on()
    other = world.ask("other", 8)
    world.ready("other#1")
    world.release(other)
    world.tick(60)
    growth = world.grow(lease, 8, apart=["m#2"])
    world.seen("other#1")
    assert world.stopped() == [("other#1", "evicted")]
    world.gone("other#1")
    world.ready("m#3")
    world.carried(growth)
    assert world.home(lease) == "m#3"


def test_its_own_instance_ends_for_it_first_where_nobody_else_is_there() -> None:
    world = World({"gpu": Gpu(capacity=17 * GIB)})
    lease = small(world, 4)
    other = small(world, 8, context=16384)
    world.release(other)
    growth = world.grow(lease, 8, apart=["m#2"])
    world.seen("m#1")
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    world.gone("m#1")
    world.ready("m#3")
    world.carried(growth)
    assert world.home(lease) == "m#3"


def test_one_whose_instance_would_load_for_too_long_shares_at_once() -> None:
    world, lease = going_on(load=30)
    growth = world.grow(lease, 8, apart=["m#2"], deadline=10)
    world.carried(growth)
    assert (world.home(lease), world.started()) == ("m#2", ["m#1", "m#2"])


def test_a_request_that_lost_its_place_has_an_instance_of_its_own_where_there_is_room() -> None:
    world, _ = going_on()
    again = small(world, 8, context=16384, max_instances=1, apart=["m#2"])
    assert (world.home(again), world.started()) == ("m#3", ["m#1", "m#2", "m#3"])


@pytest.mark.parametrize("apart", [["m#2"], []])
def test_it_shares_where_there_is_none_and_any_request_does_so_that_says_nothing_of_conversations(
    apart: list[str],
) -> None:
    world, _ = going_on(gib=16 if apart else 20)
    again = world.ask("m", 8, context=16384, elastic=True, max_instances=1, apart=apart)
    assert (world.home(again), world.started()) == ("m#2", ["m#1", "m#2"])


def test_nothing_ends_so_that_a_request_need_not_share() -> None:
    world, _ = going_on()
    idle = world.ask("other", 8)
    world.ready("other#1")
    world.release(idle)
    world.tick(60)
    again = world.ask("m", 8, context=16384, elastic=True, max_instances=1, apart=["m#2"])
    world.seen("m#2")
    assert world.home(again) == "m#2"
    assert world.stopped() == []


def test_a_request_that_finds_neither_room_nor_a_slot_waits_for_the_slot() -> None:
    world, _ = going_on(gib=16)
    other = small(world, 8, context=16384)
    again = world.ask("m", 8, context=16384, elastic=True, max_instances=1, apart=["m#2"])
    assert world.waiting() == [again]
    world.release(other)
    assert world.home(again) == "m#2"
