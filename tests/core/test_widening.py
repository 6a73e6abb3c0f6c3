"""Stories of one cache for all slots: a lease that grows gets further slots where it is, as long as there are any."""

from __future__ import annotations

from typing import Any

from core.world import GIB, Gpu, World, lease_of

from lmxd.core.decisions import CarryConversation, MoveLease, SaveConversation
from lmxd.core.rules import Quota
from lmxd.core.words import TicketId

CACHE, SHARES = 32_768, 8


def shared(world: World, slots: int = 1, gib: float = 8, **more: Any) -> TicketId:
    """A request for so many slots of an instance whose eight have one cache. The first one has it started."""
    wish: dict[str, Any] = {"elastic": True, "unified": True, "context": CACHE, "slots": slots, "spread": SHARES}
    ticket = world.ask("m", gib, **wish | more)
    for name in [i.id for i in world.state.instances.values() if i.comes_up]:
        world.ready(name)
    return ticket


def widen(world: World, lease: str, slots: int, gib: float = 8, **more: Any) -> TicketId:
    return world.grow(lease, gib, **{"context": CACHE, "slots": slots, "spread": SHARES, "slot": 3} | more)


def slots_of(world: World, lease: str) -> int:
    return world.state.leases[lease_of(lease)].slots


def test_a_lease_gets_further_slots_at_once_where_it_is() -> None:
    world = World()
    lease, other = shared(world), shared(world, 2)
    growth = widen(world, lease, 6)
    assert world.started() == ["m#1"]
    assert (slots_of(world, lease), slots_of(world, other)) == (6, 2)
    assert not world.all(CarryConversation)
    told = world.last(MoveLease)
    assert (told.ticket, told.instance, told.before, told.widened) == (growth, "m#1", "m#1", True)
    assert told.slot == 3, "its conversation lies where it lay"
    assert world.instance("m#1").free_slots == 0


def test_what_a_lease_has_room_for_is_what_its_slots_have_together() -> None:
    world = World()
    lease = shared(world, 3)
    assert world.instance("m#1").ask.tokens(slots_of(world, lease)) == 3 * CACHE // SHARES


def test_slots_are_never_given_twice_and_a_growth_waits_for_those_of_others() -> None:
    world = World({"gpu": Gpu(capacity=12 * GIB)})
    lease, other = shared(world, 3), shared(world, 4)
    widen(world, lease, 6)
    assert slots_of(world, lease) == 3
    assert not world.moves()
    third = shared(world)
    assert third in world.granted(), "one slot is left, which helps the growth nothing"
    world.release(other)
    assert slots_of(world, lease) == 6
    assert world.instance("m#1").free_slots == 1


def test_a_growth_that_does_not_wait_is_refused_and_keeps_what_it_has() -> None:
    world = World({"gpu": Gpu(capacity=12 * GIB)})
    lease = shared(world, 3)
    shared(world, 4)
    growth = widen(world, lease, 6, wait=0.0)
    assert world.refused() == {growth: "no_capacity"}
    assert slots_of(world, lease) == 3


def test_a_growth_without_room_gets_another_instance_with_its_conversation() -> None:
    world = World()
    lease = shared(world, 3)
    shared(world, 4)
    growth = widen(world, lease, 6)
    assert world.started() == ["m#1", "m#2"]
    world.ready("m#2")
    world.carried(growth, 0)
    assert world.home(lease) == "m#2"
    assert slots_of(world, lease) == 6
    assert world.instance("m#1").free_slots == 4


def test_a_growth_that_names_a_most_of_instances_waits_instead() -> None:
    world = World()
    lease, other = shared(world, 3), shared(world, 4)
    widen(world, lease, 6, max_instances=1)
    assert world.started() == ["m#1"]
    world.release(other)
    assert (world.home(lease), slots_of(world, lease)) == ("m#1", 6)


def test_all_who_hold_every_slot_and_wait_for_more_get_their_turns() -> None:
    world = World({"gpu": Gpu(capacity=12 * GIB)})
    first, second = shared(world, 4), shared(world, 4)
    widen(world, first, 6, slot=0)
    widen(world, second, 6, slot=1)
    world.seen("m#1")
    for name in [i.id for i in world.state.instances.values() if i.saving]:
        world.saved(name)
    world.gone("m#1")
    world.ready("m#2")
    for ticket in [t.id for t in world.state.tickets.values() if t.carrying]:
        world.carried(ticket)
    assert (world.home(first), slots_of(world, first)) == ("m#2", 6)
    world.release(first)
    for ticket in [t.id for t in world.state.tickets.values() if t.carrying]:
        world.carried(ticket)
    assert (world.home(second), slots_of(world, second)) == ("m#2", 6)


def test_a_quota_counts_only_what_a_growth_adds() -> None:
    world = World(quotas={1000: Quota(max_bytes=6 * GIB)})
    lease = shared(world, 4)
    widen(world, lease, 6)
    assert slots_of(world, lease) == 6
    widen(world, lease, 7, wait=0.0)
    assert slots_of(world, lease) == 6


def test_a_growth_in_place_is_kept_when_lmxd_is_killed() -> None:
    world = World()
    lease = shared(world)
    widen(world, lease, 5)
    world.restart()
    assert slots_of(world, lease) == 5
    assert world.instance("m#1").free_slots == 3


def test_who_was_passed_over_while_an_engine_was_asked_is_served_once_another_has_it() -> None:
    world = World({"gpu": Gpu(capacity=12 * GIB)})
    first = shared(world, uid=8)
    world.release(first)
    world.tick(1)
    waits = shared(world, uid=7)
    assert waits not in world.granted(), "the last user may have left work behind"
    comes = shared(world, uid=8)
    assert {waits, comes} <= set(world.granted())


def larger(world: World, slots: int, **more: Any) -> TicketId:
    """A request for so many slots, for which an instance with 16 would be started."""
    return shared(world, slots, 10, **{"context": 2 * CACHE, "spread": 2 * SHARES} | more)


def test_a_larger_instance_takes_the_place_of_a_smaller_one_whose_leases_end_there() -> None:
    world = World()
    first, second = shared(world, 4), shared(world, 3)
    wider = larger(world, 4, max_instances=1)
    assert world.started() == ["m#1", "m#2"]
    assert world.home(wider) == "m#2"
    assert world.home(first) == "m#1", "who is served there is not disturbed"
    assert world.home(shared(world)) == "m#2", "it serves nobody any more, though it has a free slot"
    world.release(first)
    world.release(second)
    world.seen("m#1")
    put_by = world.last(SaveConversation)
    assert (put_by.instance, put_by.slots, put_by.others) == ("m#1", frozenset(), frozenset(range(SHARES)))
    assert world.stopped() == []
    world.saved("m#1")
    world.seen("m#1")
    assert world.stopped() == [("m#1", "grown")]


def test_a_smaller_one_is_superseded_also_after_a_restart_of_lmxd() -> None:
    world = World()
    shared(world, 4)
    larger(world, 10)
    world.restart()
    assert world.home(shared(world)) == "m#2"


def test_a_lease_grows_out_of_an_instance_that_is_too_small_with_its_conversation() -> None:
    world = World()
    lease = shared(world, 4)
    growth = world.grow(lease, 10, context=2 * CACHE, slots=9, spread=2 * SHARES, slot=2, max_instances=1)
    world.ready("m#2")
    carries = world.last(CarryConversation).carries
    assert [(carry.instance, carry.slot) for carry in carries] == [("m#1", 2)]
    world.carried(growth, 0)
    assert (world.home(lease), slots_of(world, lease)) == ("m#2", 9)


def test_as_many_of_the_largest_run_as_a_request_names() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)})
    larger(world, 12)
    waits = larger(world, 8, max_instances=1)
    assert world.started() == ["m#1"]
    assert waits not in world.granted()


def half(world: World) -> None:
    """Four slots would do for the conversations of an idle instance, and somebody else wants the bytes."""
    world.tick(20)
    world.seen("m#1")
    world.needs_less("m#1", 8, context=CACHE // 2, spread=SHARES // 2)
    world.ask("other", 12, wait=5)
    world.seen("m#1")


def test_an_instance_does_not_shrink_to_fewer_slots_than_its_leases_have() -> None:
    world = World()
    lease, other = shared(world, 4, 16), shared(world)
    half(world)
    assert not world.all(SaveConversation)
    world.release(other)
    half(world)
    assert world.last(SaveConversation).instance == "m#1"
    assert world.home(lease) == "m#1"


def test_nobody_waits_for_a_cache_that_another_process_of_the_same_user_has_alone() -> None:
    world = World({"gpu": Gpu(capacity=40 * GIB)})
    shared(world, SHARES, pid=1)
    agent = shared(world, pid=2, max_instances=1)
    assert world.started() == ["m#1", "m#2"]
    long = shared(world, SHARES - 1, pid=2, max_instances=1)
    assert {agent, long} <= set(world.granted()), "they share the second one"
    shared(world, pid=2, max_instances=1)
    assert world.started() == ["m#1", "m#2"], "that is as many as may be"


def test_a_pinned_instance_goes_on_beside_a_larger_one() -> None:
    world = World()
    shared(world, 7, pin=True)
    larger(world, 4)
    assert world.home(shared(world)) == "m#1"


def test_a_larger_one_without_room_for_others_leaves_them_the_smaller_one() -> None:
    world = World()
    shared(world, 4)
    alone = larger(world, 16)
    assert world.home(shared(world)) == "m#1"
    world.release(alone)
    assert world.home(larger(world, 9)) == "m#2"
    assert world.home(shared(world)) == "m#2"


def test_one_that_is_ready_late_is_superseded_by_a_larger_one_that_was_ready_before() -> None:
    world = World()
    first = world.ask("m", 8, elastic=True, unified=True, context=CACHE, slots=4, spread=SHARES)
    second = world.ask("m", 10, elastic=True, unified=True, context=2 * CACHE, slots=9, spread=2 * SHARES)
    world.ready("m#2")
    world.ready("m#1")
    assert (world.home(first), world.home(second)) == ("m#1", "m#2")
    assert world.home(shared(world)) == "m#2"


def test_a_larger_one_takes_the_place_once_it_has_slots_for_others() -> None:
    world = World()
    shared(world, 4)
    alone = larger(world, 16)
    world.release(alone)
    assert world.home(shared(world)) == "m#2"


def test_those_who_had_rather_have_a_larger_one_share_it() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)})
    shared(world, 4)
    wish: dict[str, Any] = {"context": 2 * CACHE, "spread": 2 * SHARES, "max_instances": 1, "apart": ["m#1"]}
    tickets = [world.ask("m", 10, elastic=True, unified=True, slots=8, **wish) for _ in range(3)]
    assert world.started() == ["m#1", "m#2"]
    world.ready("m#2")
    assert [world.home(ticket) for ticket in tickets[:2]] == ["m#2", "m#2"]
    assert tickets[2] not in world.granted(), "it waits for slots of that one"


def test_slots_of_another_size_are_not_those_that_are_asked_for() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)})
    lease = shared(world, 4)
    other = shared(world, 2, context=2 * CACHE)
    assert world.home(other) == "m#2", "as after a reload with another start"
    growth = world.grow(lease, 8, context=2 * CACHE, slots=3, spread=SHARES, slot=0)
    world.carried(growth, 0)
    assert (world.home(lease), slots_of(world, lease)) == ("m#2", 3)
