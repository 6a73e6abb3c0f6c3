"""Stories of shrinking: an idle instance gives back what its conversation does not use, and keeps the conversation."""

from __future__ import annotations

from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import CarryConversation, CheckActivity, EndLease, MoveLease, SaveConversation, StartInstance
from lmxd.core.events import ActivitySeen
from lmxd.core.holders import own_ticket
from lmxd.core.moves import Carry
from lmxd.core.orders import DrainRequested, KeepAliveChanged
from lmxd.core.policy.eviction import THRASH_WINDOW
from lmxd.core.reasons import EndReason
from lmxd.core.words import Failure, Hold, InstanceId

CRASHED = Failure(code="crashed", message="it crashed")


def large(world: World, gib: float = 16, *, held: bool = False, less: float | None = 8, **more: Any) -> str:
    """An idle instance of a large step, for whose conversation ``less`` GiB are enough."""
    lease = world.ask("m", gib, context=16384, elastic=True, **more)
    name = world.last(StartInstance).instance
    world.ready(name)
    if not held:
        world.release(lease)
    world.tick(20)
    world.seen(name)
    world.needs_less(name, less)
    return lease


def test_an_idle_instance_shrinks_for_one_who_waits_and_keeps_its_conversation() -> None:
    world = World()
    large(world)
    waits = world.ask("other", 12)
    assert world.last(SaveConversation).instance == "m#1"
    world.saved("m#1")
    assert world.stopped() == [("m#1", "shrunk")]
    assert waits in world.waiting()
    world.gone("m#1")
    smaller, other = world.all(StartInstance)[-2:]
    assert (smaller.instance, smaller.ask.context) == ("m#2", 4096)
    assert smaller.carry == Carry(instance=InstanceId("m#1"), slot=0, file="m#1.bin")
    assert other.instance == "other#1", "who waits has the difference"
    assert world.headroom() == 4
    world.ready("m#2")
    world.ready("other#1")
    assert waits in world.granted()


def test_nothing_shrinks_where_free_bytes_are_enough() -> None:
    world = World()
    large(world)
    world.ask("other", 8)
    assert not world.all(SaveConversation)
    assert world.started()[-1] == "other#1"


def test_a_shrink_comes_before_an_eviction() -> None:
    world = World()
    idle = world.ask("idle", 4)
    world.ready("idle#1")
    world.release(idle)
    large(world)
    world.tick(60)
    world.seen("m#1")
    world.ask("other", 8)
    world.seen("m#1")
    world.saved("m#1")
    assert world.stopped() == [("m#1", "shrunk")]


def test_an_eviction_alone_is_made_where_shrinks_do_not_suffice() -> None:
    world = World()
    large(world, less=14)
    world.tick(60)
    world.ask("other", 12)
    world.seen("m#1")
    assert world.stopped() == [("m#1", "evicted")]
    assert not world.all(SaveConversation)


def test_as_few_shrink_as_are_enough() -> None:
    world = World({"gpu": Gpu(capacity=48 * GIB)})
    large(world, 16)
    large(world, 12, less=8, variant="w")
    large(world, 16, less=4, variant="x")
    world.ask("other", 12)
    assert {x.instance for x in world.all(SaveConversation)} | {x.instance for x in world.all(CheckActivity)} >= {"m#3"}
    world.seen("m#3")
    world.saved("m#3")
    assert world.stopped() == [("m#3", "shrunk")], "it gives 12, the first 8, and the second 4"


def test_one_that_works_is_left_alone() -> None:
    world = World()
    large(world)
    world.seen("m#1", busy=True, worked=True)
    world.seen("m#1")
    waits = world.ask("other", 12)
    assert not world.all(SaveConversation), "how much it uses now is not known"
    assert waits in world.waiting()


def test_one_that_works_again_while_it_is_saved_is_left_alone() -> None:
    world = World()
    large(world, held=True)
    waits = world.ask("other", 12)
    world.seen("m#1", busy=True, worked=True)
    world.saved("m#1")
    assert world.stopped() == []
    assert world.waiting() == [waits]
    world.seen("m#1", worked=True)
    world.tick(6)
    world.seen("m#1")
    world.needs_less("m#1", 8)
    assert len(world.all(SaveConversation)) == 2, "its conversation is another now"


def test_one_that_needs_what_it_has_does_not_shrink() -> None:
    world = World()
    large(world)
    world.needs_less("m#1", None)
    world.ask("other", 12)
    assert not world.all(SaveConversation)


@pytest.mark.parametrize("less", [16.0, 20.0])
def test_one_that_would_not_give_bytes_back_does_not_shrink(less: float) -> None:
    world = World()
    large(world)
    world.needs_less("m#1", less)
    world.ask("other", 12)
    assert not world.all(SaveConversation)


@pytest.mark.parametrize("how", [{"pin": True}, {"spread": 2}])
def test_a_pinned_one_or_one_of_several_slots_does_not_shrink(how: dict[str, Any]) -> None:
    world = World()
    large(world, **how)
    world.ask("other", 12)
    assert not world.all(SaveConversation)


def test_one_that_has_just_grown_does_not_shrink() -> None:
    world = World()
    lease = world.ask("m", 6, elastic=True)
    world.ready("m#1")
    growth = world.grow(lease, 16)
    world.ready("m#2")
    world.carried(growth)
    world.seen("m#1")
    world.gone("m#1")
    world.tick(10)
    world.seen("m#2")
    world.needs_less("m#2", 8)
    world.ask("other", 12)
    assert not world.all(SaveConversation)
    world.tick(THRASH_WINDOW)
    world.seen("m#2")
    assert world.last(SaveConversation).instance == "m#2"


def test_a_lease_that_is_not_used_moves_to_the_smaller_instance() -> None:
    world = World()
    lease = large(world, held=True)
    waits = world.ask("other", 12)
    world.saved("m#1")
    assert world.stopped() == [("m#1", "shrunk")]
    assert not world.all(EndLease)
    world.gone("m#1")
    assert world.started() == ["m#1", "m#2", "other#1"]
    assert world.last(StartInstance).carry is None
    world.ready("m#2")
    assert world.last(CarryConversation).carry.file == "m#1.bin"
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.moves() == [(lease_of(lease), "m#1", "m#2", 0)]
    assert world.last(MoveLease).move == "shrunk"
    world.ready("other#1")
    assert waits in world.granted()
    assert world.state.leases[lease_of(lease)].size == 8 * GIB


def test_a_lease_that_is_used_keeps_its_instance() -> None:
    world = World()
    large(world, held=True)
    world.seen("m#1", busy=False, worked=True)
    world.needs_less("m#1", 8)
    world.ask("other", 12)
    world.seen("m#1")
    assert not world.all(SaveConversation)


def test_a_lease_that_wants_more_context_meanwhile_gets_it() -> None:
    world = World()
    lease = large(world, held=True)
    waits = world.ask("other", 12)
    world.saved("m#1")
    world.gone("m#1")
    growth = world.grow(lease, 16, context=16384)
    assert growth in world.waiting()
    world.ready("other#1")
    world.release(waits)
    world.seen("other#1")
    world.tick(60)
    for name in ("m#2", "other#1"):
        if world.instance(name).comes_up:
            world.ready(name)
        world.seen(name)
    for name in ("m#2", "other#1"):
        if name in world.state.instances and world.instance(name).ends:
            world.gone(name)
    world.ready(world.started()[-1])
    world.carried(growth, 0)
    assert world.moves()[-1][1:] == ("m#1", world.started()[-1], 0)


def test_a_smaller_instance_that_does_not_start_leaves_its_lease_with_what_it_had() -> None:
    world = World()
    lease = large(world, held=True, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    assert world.stopped() == [("m#1", "shrunk")]
    world.gone("m#1")
    world.exited("m#2", CRASHED)
    world.measure()
    assert world.last(StartInstance).ask.context == 16384
    world.ready("m#3")
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.last(MoveLease).move == "returned"


def test_one_whose_smaller_instance_failed_lately_is_left_alone() -> None:
    world = World()
    lease = large(world, held=True, idle_shrink=5.0)

    def idle(seconds: float) -> bool:
        """Whether it is to shrink after so many seconds more."""
        before = len(world.all(SaveConversation))
        world.tick(seconds)
        world.needs_less(world.home(lease), 8)
        world.seen(world.home(lease))
        return len(world.all(SaveConversation)) > before

    for had, smaller, again in (("m#1", "m#2", "m#3"), ("m#3", "m#4", "m#5")):
        assert idle(6)
        world.saved(had)
        world.seen(had)
        world.gone(had)
        world.exited(smaller, CRASHED)
        world.measure()
        world.ready(again)
        world.carried(own_ticket(lease_of(lease)), 0)
        assert world.home(lease) == again
    assert not idle(6), "it failed twice, ten seconds ago at most"
    assert idle(6)


def test_a_smaller_instance_without_a_lease_that_does_not_start_is_gone() -> None:
    world = World()
    large(world, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    world.gone("m#1")
    world.exited("m#2", CRASHED)
    world.measure()
    assert not world.state.instances


def test_a_smaller_instance_without_a_lease_that_does_not_fit_any_more_is_gone() -> None:
    world = World()
    large(world)
    waits = world.ask("other", 12)
    world.saved("m#1")
    world.exited("m#1")
    world.devices["gpu"].limit = 6 * GIB
    world.measure()
    assert not world.state.instances
    assert world.refused() == {waits: "never_fits"}


def test_a_request_that_comes_while_it_shrinks_has_the_smaller_instance() -> None:
    world = World()
    large(world, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    mine = world.ask("m", 8, elastic=True)
    world.gone("m#1")
    world.ready(world.state.tickets[mine].instance or "")
    assert mine in world.granted()


def test_one_that_did_nothing_for_long_shrinks_for_nobody() -> None:
    world = World()
    large(world, idle_shrink=60.0)
    world.tick(30)
    world.seen("m#1")
    assert not world.all(SaveConversation)
    world.tick(20)
    world.seen("m#1")
    assert world.last(SaveConversation).why.startswith("idle for")
    world.saved("m#1")
    world.tick(1)
    world.seen("m#1")
    assert world.stopped() == [("m#1", "shrunk")]
    world.gone("m#1")
    assert world.last(StartInstance).ask.context == 4096
    assert world.headroom() == 16


def test_one_without_a_limit_stays_as_large_as_it_is() -> None:
    world = World()
    large(world, idle_timeout=1e6)
    world.tick(1e5)
    world.seen("m#1")
    assert not world.all(SaveConversation)


def test_the_smaller_instance_ends_when_its_client_said() -> None:
    world = World()
    large(world, idle_shrink=5.0)
    world.happen(KeepAliveChanged(at=world.now, instance=InstanceId("m#1"), seconds=100.0))
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    world.gone("m#1")
    world.ready("m#2")
    world.tick(101)
    world.seen("m#2")
    assert world.stopped()[-1] == ("m#2", "idle")


def test_nothing_shrinks_while_lmxd_drains() -> None:
    world = World()
    large(world, held=True, idle_shrink=5.0)
    world.happen(DrainRequested(at=world.now))
    world.seen("m#1")
    assert not world.all(SaveConversation)


def test_a_drain_while_it_shrinks_starts_nothing() -> None:
    world = World()
    large(world, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    world.happen(DrainRequested(at=world.now))
    world.gone("m#1")
    assert not world.state.instances


def test_a_drain_while_it_shrinks_ends_its_lease() -> None:
    world = World()
    large(world, held=True, less=10, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    world.happen(DrainRequested(at=world.now))
    assert world.last(EndLease).reason is EndReason.DRAINING


@pytest.mark.parametrize("held", [True, False])
def test_after_a_restart_a_lease_gets_its_smaller_instance_and_one_without_is_gone(held: bool) -> None:
    world = World()
    lease = large(world, held=held, hold=Hold.TTL, ttl=1000.0, idle_shrink=5.0)
    world.seen("m#1")
    world.saved("m#1")
    world.seen("m#1")
    assert world.stopped() == [("m#1", "shrunk")]
    world.restart()
    world.measure()
    if not held:
        assert not world.state.instances
        return
    world.tick(1)
    assert world.last(StartInstance).ask.context == 4096
    world.ready(world.last(StartInstance).instance)
    assert world.last(CarryConversation).carry.file == "m#1.bin"
    world.carried(own_ticket(lease_of(lease)), 0)
    assert world.last(MoveLease).move == "shrunk"


def test_the_bytes_of_the_smaller_instance_are_no_part_of_what_comes_free() -> None:
    world = World()
    large(world)
    first = world.ask("other", 12)
    world.saved("m#1")
    second = world.ask("more", 10)
    world.tick(1)
    assert world.waiting() == [first, second]
    world.gone("m#1")
    world.ready("m#2")
    world.happen(ActivitySeen(at=world.now, instance=InstanceId("m#2"), busy=True, worked=True))
    assert second in world.waiting()
