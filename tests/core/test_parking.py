"""Stories of a growth by difference: the old instance ends before the larger one starts, and the lease is parked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import (
    AskToYield,
    CarryConversation,
    CheckActivity,
    EndLease,
    MoveLease,
    RefuseLease,
    ReportProgress,
    SaveConversation,
    StartInstance,
)
from lmxd.core.events import AskChanged, LeaseRenewed
from lmxd.core.holders import own_ticket
from lmxd.core.moves import Carry
from lmxd.core.orders import DrainRequested, PolicyChanged
from lmxd.core.reasons import EndReason
from lmxd.core.rules import Policy, Quota
from lmxd.core.words import ConnectionId, Failure, Hold, InstanceId, TicketId

CRASHED = Failure(code="crashed", message="it crashed")
PHASES = ("saves", "parked", "starts", "carries")


def small(world: World, gib: float = 12, **more: Any) -> str:
    """A lease on an instance of the first step, which is ready."""
    ticket = world.ask("m", gib, elastic=True, **more)
    if not world.state.leases.get(lease_of(ticket)):
        world.ready(world.last(StartInstance).instance)
    assert lease_of(ticket) in world.state.leases
    return ticket


def growing(phase: str, *, gib: float = 16, world: World | None = None, **more: Any) -> tuple[World, str, TicketId]:
    """A lease of 12 of 24 GiB that grows to 16, and so far it has come."""
    world = world or World()
    lease = small(world, **more)
    growth = world.grow(lease, gib, connection=99)
    world.seen("m#1")
    if phase != "saves":
        world.saved("m#1")
    if phase in ("starts", "carries"):
        world.gone("m#1")
    if phase == "carries":
        world.ready("m#2")
    return world, lease, growth


def test_a_larger_instance_that_does_not_fit_beside_the_old_one_starts_when_that_is_gone() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 16, slot=0)
    assert world.last(CheckActivity).instance == "m#1"
    assert not world.all(SaveConversation), "first its engine says that it is idle"
    world.seen("m#1")
    assert world.last(SaveConversation).instance == "m#1"
    assert world.stopped() == []
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    parked = world.state.leases[lease_of(lease)].parked
    assert parked is not None
    assert (parked.ask.context, parked.back.context) == (16384, 4096)
    assert world.started() == ["m#1"], "its bytes are not seen free yet"
    world.gone("m#1")
    assert world.started() == ["m#1", "m#2"]
    assert world.last(StartInstance).carries == (), "the conversation of a lease goes there once it is ready"
    world.ready("m#2")
    assert world.last(CarryConversation).carries == (Carry(instance=InstanceId("m#1"), slot=0, file="m#1.bin"),)
    world.carried(growth, 0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", 0)]
    assert world.last(MoveLease).move == "grown"
    assert world.home(lease) == "m#2"
    assert not world.all(EndLease)
    assert world.headroom() == 8


def test_nothing_is_parked_where_the_larger_instance_fits_beside() -> None:
    world = World()
    world.grow(small(world, 8), 16)
    assert world.started() == ["m#1", "m#2"]
    assert not world.all(SaveConversation)


def test_the_own_instance_ends_before_an_idle_one_of_another_model() -> None:
    world = World()
    other = world.ask("other", 8)
    world.ready("other#1")
    world.release(other)
    world.tick(60)
    growing("parked", world=world)
    assert world.stopped() == [("m#1", "grown")]


def test_the_own_instance_ends_with_an_idle_one_if_it_does_not_suffice() -> None:
    world = World()
    other = world.ask("other", 8)
    world.ready("other#1")
    world.release(other)
    world.tick(60)
    lease = small(world)
    world.grow(lease, 20)
    world.seen("m#1")
    world.seen("other#1")
    world.saved("m#1")
    assert sorted(world.stopped()) == [("m#1", "grown"), ("other#1", "evicted")]
    world.gone("m#1")
    assert world.started()[-1] == "m#1"
    world.gone("other#1")
    assert world.started()[-1] == "m#2"


def test_a_generation_is_not_cut() -> None:
    world = World()
    lease = small(world)
    world.seen("m#1", busy=True, worked=True)
    growth = world.grow(lease, 16)
    for _ in range(3):
        world.tick(1)
        world.seen("m#1", busy=True, worked=True)
    assert world.waiting() == [growth]
    assert not world.all(SaveConversation)
    world.seen("m#1")
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]


def test_a_conversation_that_went_on_while_it_was_saved_is_saved_again() -> None:
    world = World()
    lease = small(world)
    world.grow(lease, 16)
    world.seen("m#1")
    world.tick(1)
    world.seen("m#1", busy=True, worked=True)
    world.saved("m#1")
    assert world.stopped() == []
    world.seen("m#1", worked=True)
    assert len(world.all(SaveConversation)) == 2
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]


def test_a_save_that_takes_long_is_followed_by_another_look() -> None:
    world = World()
    lease = small(world)
    world.grow(lease, 16)
    world.seen("m#1")
    world.tick(3)
    world.saved("m#1")
    assert world.stopped() == [], "it may work again by now"
    assert world.last(CheckActivity).instance == "m#1"
    world.seen("m#1")
    assert world.stopped() == [("m#1", "grown")]
    assert len(world.all(SaveConversation)) == 1


def test_what_was_saved_for_a_growth_that_is_cancelled_is_kept_for_nobody() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 16)
    world.seen("m#1")
    world.tick(3)
    world.saved("m#1")
    assert world.state.instances[InstanceId("m#1")].carries
    world.cancel(growth)
    assert world.state.instances[InstanceId("m#1")].carries == ()


def test_room_that_comes_free_while_a_conversation_is_saved_is_taken_instead() -> None:
    world = World()
    world.devices["gpu"].foreign = 4 * GIB
    other = world.ask("other", 4)
    world.ready("other#1")
    lease = small(world, 8)
    growth = world.grow(lease, 14)
    world.seen("m#1")
    assert world.last(SaveConversation).instance == "m#1"
    world.devices["gpu"].foreign = 0
    world.release(other)
    world.gone("other#1")
    world.measure()
    assert world.started()[-1] == "m#2"
    world.saved("m#1")
    assert world.stopped() == []
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_conversation_that_cannot_be_saved_is_processed_anew() -> None:
    world = World()
    lease = small(world)
    world.grow(lease, 16)
    world.seen("m#1")
    world.saved("m#1", lost=True)
    world.gone("m#1")
    world.ready("m#2")
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", None)]


def test_a_lease_whose_conversation_is_not_carried_is_parked_once_what_lies_there_is_put_by() -> None:
    world = World()
    lease = small(world)
    world.grow(lease, 16, slot=None)
    world.seen("m#1")
    (saves,) = world.all(SaveConversation)
    assert (saves.slots, saves.others) == (frozenset(), frozenset((0,)))
    assert not world.stopped()
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    assert len(world.all(SaveConversation)) == 1
    world.gone("m#1")
    world.ready("m#2")
    assert world.home(lease) == "m#2"


def test_the_bytes_of_a_parked_lease_are_not_for_those_who_asked_before_it() -> None:
    world = World()
    lease = small(world)
    first = world.ask("other", 14)
    growth = world.grow(lease, 16)
    world.seen("m#1")
    world.saved("m#1")
    higher = world.ask("urgent", 14, priority=5)
    assert world.waiting() == [growth, higher, first]
    world.gone("m#1")
    assert world.started() == ["m#1", "m#2"]


def test_a_parked_lease_has_a_slot_of_an_instance_that_has_room_meanwhile() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    large = world.ask("m", 10, context=16384, elastic=True)
    world.ready("m#1")
    lease = small(world, 8)
    growth = world.grow(lease, 12)
    world.seen("m#2")
    world.saved("m#2")
    world.release(large)
    world.seen("m#1")
    asked = world.last(CarryConversation)
    assert (asked.instance, asked.carries[0].file) == ("m#1", "m#2.bin")
    world.carried(growth, 0)
    assert world.home(lease) == "m#1"
    assert world.started() == ["m#1", "m#2"]


def test_two_leases_that_wait_for_each_others_bytes_take_turns() -> None:
    world = World()
    first, second = small(world, 9, share=False), small(world, 9, share=False)
    one, two = world.grow(first, 20), world.grow(second, 20)
    assert world.refused() == {}
    world.seen("m#1")
    world.seen("m#2")
    world.saved("m#1")
    assert world.stopped() == []
    world.saved("m#2")
    assert sorted(world.stopped()) == [("m#1", "grown"), ("m#2", "grown")]
    world.gone("m#1")
    world.gone("m#2")
    world.ready("m#3")
    world.carried(one)
    assert world.home(first) == "m#3"
    assert world.waiting() == [two]
    world.release(first)
    assert [x.file for x in world.last(CarryConversation).carries] == ["m#2.bin"]
    world.carried(two)
    assert world.moves()[-1] == (lease_of(second), "m#2", "m#3", 0)


def test_an_instance_whose_lease_does_not_wait_to_grow_is_no_place_for_another() -> None:
    world = World()
    first, second = small(world, 9, share=False), small(world, 9, share=False)
    growth = world.grow(first, 20)
    world.seen("m#1")
    world.seen("m#2")
    assert world.waiting() == [growth]
    assert world.stopped() == []
    assert world.home(second) == "m#2"


def test_an_ordinary_request_has_no_lease_parked() -> None:
    world = World()
    world.ask("other", 8)
    world.ready("other#1")
    lease = small(world)
    growth = world.grow(lease, 22)
    waits = world.ask("more", 10)
    world.seen("m#1")
    world.tick(1)
    assert set(world.waiting()) == {growth, waits}
    assert world.stopped() == []
    assert world.home(lease) == "m#1"


def test_an_instance_of_several_slots_ends_for_its_lease_only_if_all_of_them_wait_to_grow() -> None:
    world = World()
    first, second = small(world, spread=2), small(world, spread=2)
    growth = world.grow(first, 16, slot=1)
    world.seen("m#1")
    assert world.waiting() == [growth]
    assert not world.all(SaveConversation)
    world.release(second)
    world.seen("m#1")
    assert world.last(SaveConversation).slots == {1}
    assert world.last(SaveConversation).others == {0}, "nobody who waits has that"
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    kept = world.kept("m#1", 1)
    world.gone("m#1")
    world.ready("m#2")
    assert world.last(CarryConversation).carries == (kept,)
    world.carried(growth)
    assert world.moves() == [(lease_of(first), "m#1", "m#2", 0)]


def test_an_instance_of_several_slots_ends_for_two_growths_and_each_has_its_own_conversation() -> None:
    world = World()
    first, second = small(world, spread=3), small(world, spread=3)
    growths = [world.grow(first, 16, slot=2, spread=2), world.grow(second, 16, slot=0, spread=2)]
    world.seen("m#1")
    assert world.last(SaveConversation).slots == {0, 2}
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    world.gone("m#1")
    world.ready("m#2")
    carried = {x.ticket: [carry.file for carry in x.carries] for x in world.all(CarryConversation)}
    assert carried == {growths[0]: ["m#1-2.bin"], growths[1]: ["m#1.bin"]}
    world.carried(growths[0], 1)
    world.carried(growths[1], 0)
    assert world.moves() == [(lease_of(first), "m#1", "m#2", 1), (lease_of(second), "m#1", "m#2", 0)]


def test_a_growth_that_joins_another_while_that_is_saved_has_its_conversation_saved_too() -> None:
    world = World()
    first = small(world, spread=2)
    world.grow(first, 16, slot=0, spread=2)
    world.seen("m#1")
    assert world.last(SaveConversation).slots == {0}
    second = small(world, spread=2)
    world.grow(second, 16, slot=1, spread=2)
    world.saved("m#1")
    world.seen("m#1")
    assert world.last(SaveConversation).slots == {1}
    world.saved("m#1")
    assert world.stopped() == [("m#1", "grown")]
    parked = {lease.id: lease.parked.carries for lease in world.state.leases.values() if lease.parked is not None}
    assert parked == {lease_of(first): (world.kept("m#1", 0),), lease_of(second): (world.kept("m#1", 1),)}


def test_a_pinned_instance_does_not_end() -> None:
    world = World()
    lease = small(world, pin=True)
    growth = world.grow(lease, 16)
    assert world.refused() == {growth: "never_fits"}
    assert not world.all(CheckActivity)


def test_an_instance_that_is_kept_is_replaced_by_its_larger_one() -> None:
    world, lease, growth = growing("carries")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_growth_that_would_not_wait_is_served_by_difference_as_well() -> None:
    world = World()
    lease = small(world)
    growth = world.grow(lease, 16, wait=0.0, deadline=10.0)
    assert world.refused() == {}
    world.seen("m#1")
    world.saved("m#1")
    world.tick(20)
    assert world.refused() == {}, "once it is parked it has nowhere to go back to"
    world.gone("m#1")
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_parked_lease_counts_for_its_users_quota_once() -> None:
    world = World(quotas={1000: Quota(max_leases=1, max_bytes=16 * GIB)})
    world, lease, growth = growing("parked", world=world)
    share = world.state.shares.by_uid[1000]
    assert (share.leases, share.bytes, share.waiting) == (1, 12 * GIB, 1)
    world.gone("m#1")
    world.ready("m#2")
    world.carried(growth)
    assert (share.leases, share.bytes, share.waiting) == (1, 16 * GIB, 0)
    assert world.home(lease) == "m#2"


def test_a_holder_renews_a_parked_lease() -> None:
    world, lease, growth = growing("parked", hold=Hold.TTL, ttl=10.0)
    world.tick(8)
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(lease)))
    world.tick(8)
    assert lease_of(lease) in world.state.leases
    world.gone("m#1")
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


# something goes wrong


def test_a_larger_instance_that_fails_leaves_the_lease_with_what_it_had() -> None:
    world, lease, growth = growing("starts")
    world.exited("m#2", CRASHED)
    assert world.refused() == {growth: "launch_failed"}
    assert world.waiting() == [own_ticket(lease_of(lease))]
    world.measure()
    assert world.last(StartInstance).ask.context == 4096
    world.ready("m#3")
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#3", 0)]
    assert world.last(MoveLease).move == "returned"
    assert len(world.all(RefuseLease)) == 1
    assert world.state.leases[lease_of(lease)].parked is None
    assert world.state.leases[lease_of(lease)].size == 12 * GIB


def test_a_larger_instance_that_fails_while_the_conversation_is_carried_does_so_too() -> None:
    world, lease, growth = growing("carries")
    world.exited("m#2", CRASHED)
    world.measure()
    assert world.refused() == {growth: "launch_failed"}
    world.ready("m#3")
    assert [x.file for x in world.last(CarryConversation).carries] == ["m#1.bin"]
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.home(lease) == "m#3"


def test_a_lease_ends_if_what_it_had_fails_as_well() -> None:
    world, lease, _ = growing("starts")
    world.exited("m#2", CRASHED)
    world.measure()
    world.exited("m#3", CRASHED)
    ended = world.last(EndLease)
    assert (ended.lease, ended.reason, ended.detail) == (lease_of(lease), EndReason.INSTANCE_EXITED, "it crashed")
    assert not world.state.tickets
    assert len(world.all(RefuseLease)) == 1


def test_room_that_others_take_after_the_old_instance_has_ended_is_waited_for() -> None:
    world, lease, growth = growing("parked")
    behind = world.ask("other", 10)
    world.exited("m#1")
    world.devices["gpu"].foreign = 12 * GIB
    world.measure()
    world.tick(1)
    assert world.started() == ["m#1"], "not even who needs less has the bytes that it waits for"
    assert world.waiting() == [growth, behind]
    assert world.last(ReportProgress).ticket in (growth, behind)
    world.devices["gpu"].foreign = 0
    world.measure()
    world.tick(1)
    assert world.started() == ["m#1", "m#2"]
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_larger_instance_that_never_fits_any_more_leaves_the_lease_with_what_it_had() -> None:
    world, lease, growth = growing("parked")
    world.exited("m#1")
    world.devices["gpu"].limit = 14 * GIB
    world.measure()
    assert world.refused() == {growth: "never_fits"}
    assert world.last(StartInstance).ask.context == 4096
    world.devices["gpu"].limit = 10 * GIB
    world.exited("m#2", CRASHED)
    world.measure()
    assert world.last(EndLease).lease == lease_of(lease)


@pytest.mark.parametrize("phase", PHASES)
def test_a_caller_that_does_not_wait_any_more_leaves_the_lease_on_its_way(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.cancel(growth)
    assert world.refused() == {growth: "cancelled"}
    if phase == "saves":
        world.saved("m#1")
        assert world.home(lease) == "m#1"
        assert world.stopped() == []
        return
    on_its_way(world, lease)


@pytest.mark.parametrize("phase", PHASES)
def test_a_connection_that_only_asked_for_growth_leaves_the_lease_on_its_way(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.leave(99)
    assert world.refused() == {growth: "client_left"}
    if phase == "saves":
        assert world.home(lease) == "m#1"
        return
    on_its_way(world, lease)


def on_its_way(world: World, lease: str) -> None:
    """Nobody waits for a growth any more, and the lease gets there all the same."""
    if "m#1" in world.state.instances:
        world.gone("m#1")
    if world.instance("m#2").ready_at is None:
        world.ready("m#2")
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", 0)]
    assert world.started() == ["m#1", "m#2"]


@pytest.mark.parametrize("phase", PHASES)
def test_a_growth_that_is_asked_again_has_the_place_of_the_first(phase: str) -> None:
    world, lease, growth = growing(phase)
    again = world.grow(lease, 18, context=32768)
    assert world.refused() == {growth: "cancelled"}
    for _ in range(4):
        for instance in list(world.state.instances.values()):
            world.gone(instance.id) if instance.ends else world.seen(instance.id)
            if instance.saving:
                world.saved(instance.id)
            if instance.id in world.state.instances and instance.comes_up:
                world.ready(instance.id)
        world.tick(1)
    world.carried(again, 0)
    assert world.state.instances[InstanceId(world.home(lease))].ask.context == 32768
    assert world.answered[again] == 1


@pytest.mark.parametrize("phase", PHASES)
def test_a_lease_that_is_released_takes_the_growth_with_it(phase: str) -> None:
    world, lease, growth = growing(phase)
    world.release(lease)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.RELEASED
    assert not world.state.tickets
    assert not world.state.leases


@pytest.mark.parametrize("phase", PHASES)
def test_a_holder_whose_connection_closes_has_neither_lease_nor_growth(phase: str) -> None:
    world, lease, growth = growing(phase, connection=5)
    world.leave(5)
    assert world.refused() == {growth: "cancelled"}
    assert lease_of(lease) not in world.state.leases
    assert not world.state.tickets


@pytest.mark.parametrize("phase", PHASES)
def test_a_holder_whose_connection_closes_and_who_asked_itself_has_neither(phase: str) -> None:
    world, lease, _ = growing(phase, connection=99)
    world.leave(99)
    assert lease_of(lease) not in world.state.leases
    assert not world.state.tickets


@pytest.mark.parametrize("phase", PHASES)
def test_a_lease_whose_ttl_is_over_ends(phase: str) -> None:
    world, _, growth = growing(phase, hold=Hold.TTL, ttl=10.0)
    world.tick(11)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.TTL_EXPIRED
    assert not world.state.tickets


@pytest.mark.parametrize("phase", ["starts", "carries"])
def test_an_administrator_who_stops_the_larger_instance_ends_the_lease(phase: str) -> None:
    world, _, growth = growing(phase)
    world.stop("m#2")
    assert world.refused() == {growth: "stopped"}
    assert world.last(EndLease).reason is EndReason.STOPPED_BY_ADMIN


def test_an_old_instance_that_an_administrator_stops_while_it_is_saved_ends_both() -> None:
    world, _, growth = growing("saves")
    world.stop("m#1")
    assert world.refused() == {growth: "cancelled"}
    world.saved("m#1")
    assert not world.state.leases


def test_an_old_instance_that_dies_before_its_lease_is_parked_ends_both() -> None:
    world, _, growth = growing("saves")
    world.exited("m#1", CRASHED)
    assert world.refused() == {growth: "cancelled"}
    assert world.last(EndLease).reason is EndReason.INSTANCE_EXITED


@pytest.mark.parametrize(("phase", "now"), [("parked", False), ("parked", True), ("starts", True), ("carries", True)])
def test_a_drain_ends_leases_that_have_no_instance(phase: str, now: bool) -> None:
    world, _, growth = growing(phase)
    world.happen(DrainRequested(at=world.now, now=now))
    assert world.refused() == {growth: "draining"}
    assert world.last(EndLease).reason is EndReason.DRAINING
    assert not world.state.tickets


def test_a_drain_lets_a_lease_move_that_is_on_its_way() -> None:
    world, lease, growth = growing("starts")
    world.happen(DrainRequested(at=world.now))
    world.ready("m#2")
    world.carried(growth)
    assert world.home(lease) == "m#2"


def test_a_drain_lets_a_lease_be_that_was_only_saved() -> None:
    world, lease, growth = growing("saves")
    world.happen(DrainRequested(at=world.now))
    world.saved("m#1")
    assert world.refused() == {growth: "draining"}
    assert world.home(lease) == "m#1"
    assert world.stopped() == []


def test_a_queue_that_is_made_shorter_has_a_place_for_a_parked_lease() -> None:
    world, _, growth = growing("parked")
    world.happen(PolicyChanged(at=world.now, policy=Policy(queue_depth=0)))
    assert world.waiting() == [growth]


def test_a_starting_instance_that_must_go_for_others_is_started_again_for_a_parked_lease() -> None:
    world, lease, growth = growing("starts")
    world.give_way(20 * GIB, 60.0)
    for _ in range(12):
        world.tick(1)
        if "m#2" in world.state.instances and world.instance("m#2").ends:
            world.gone("m#2")
    assert not world.all(AskToYield)
    assert lease_of(lease) in world.state.leases
    world.tick(60)
    world.measure()
    world.ready(world.started()[-1])
    world.carried(growth)
    assert world.home(lease) == world.started()[-1]


def test_the_ask_of_a_parked_lease_is_made_again_when_the_devices_change() -> None:
    world, lease, growth = growing("parked")
    ask = replace(world.state.tickets[growth].ask, context=20480)
    world.happen(AskChanged(at=world.now, ticket=growth, ask=ask))
    parked = world.state.leases[lease_of(lease)].parked
    assert parked is not None
    assert (parked.ask.context, parked.back.context) == (20480, 4096)


def test_one_that_returns_does_so_also_if_its_ask_is_made_again() -> None:
    world, lease, _ = growing("starts")
    world.exited("m#2", CRASHED)
    own = own_ticket(lease_of(lease))
    ask = replace(world.state.tickets[own].ask, idle_timeout=7.0)
    world.happen(AskChanged(at=world.now, ticket=own, ask=ask))
    world.measure()
    world.ready("m#3")
    world.carried(own, 0)
    assert world.last(MoveLease).move == "returned"


@pytest.mark.parametrize("phase", PHASES)
def test_after_a_restart_a_parked_lease_has_its_conversation_and_gets_there(phase: str) -> None:
    world, lease, _ = growing(phase)
    world.restart()
    if phase == "saves":
        assert world.home(lease) == "m#1"
        assert not world.state.tickets
        return
    world.happen(LeaseRenewed(at=world.now, lease=lease_of(lease), connection=ConnectionId(7)))
    world.measure()
    world.tick(1)
    started = world.last(StartInstance)
    assert started.ask.context == 16384
    world.ready(started.instance)
    assert [x.file for x in world.last(CarryConversation).carries] == ["m#1.bin"]
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.moves() == [(lease_of(lease), "m#1", started.instance, 0)]


def test_after_a_restart_a_growth_that_is_asked_again_is_answered() -> None:
    world, lease, _ = growing("parked")
    world.restart()
    world.measure()
    again = world.grow(lease, 16)
    world.ready(world.last(StartInstance).instance)
    world.carried(again, 0)
    assert world.answered[again] == 1
    assert len(world.moves()) == 1


def test_after_a_restart_a_parked_lease_ends_if_nobody_comes_back_for_it() -> None:
    world, _, _ = growing("parked")
    world.restart()
    world.tick(31)
    assert world.last(EndLease).reason is EndReason.CONNECTION_CLOSED
    assert not world.state.tickets
