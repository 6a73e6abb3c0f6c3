"""Stories of requests that want no further instance while so many run."""

from __future__ import annotations

from core.world import GIB, Gpu, World

from lmxd.core.decisions import ReportProgress
from lmxd.core.words import Hold


def test_who_wants_one_at_most_waits_for_a_slot_of_it() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    first = world.ask("a", 8, max_instances=1)
    world.ready("a#1")
    second = world.ask("a", 8, max_instances=1)
    assert world.waiting() == [second], "there is room for another"
    world.release(first)
    assert world.granted() == [first, second]
    assert world.started() == ["a#1"]


def test_of_several_slots_each_has_one_in_order_of_arrival() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    tickets = [world.ask("a", 8, spread=2, max_instances=1) for _ in range(4)]
    world.ready("a#1")
    assert world.granted() == tickets[:2]
    world.release(tickets[1])
    world.release(tickets[0])
    assert world.granted() == tickets
    assert world.started() == ["a#1"]


def test_one_of_too_small_a_context_counts_and_makes_way() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    first = world.ask("a", 8, context=2048, max_instances=1)
    world.ready("a#1")
    second = world.ask("a", 8, context=8192, max_instances=1)
    assert world.waiting() == [second]
    assert world.started() == ["a#1"]
    world.release(first)
    world.tick(60)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")]
    assert world.started() == ["a#1", "a#2"]


def test_one_that_others_hold_to_the_last_slot_does_not_count() -> None:
    """Else a member who keeps a lease keeps all users of the gateway waiting."""
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    held = world.ask("a", 8, spread=2, slots=2, hold=Hold.EXPLICIT, uid=1)
    world.ready("a#1")
    mine = world.ask("a", 8, spread=2, max_instances=1, uid=2)
    assert world.started() == ["a#1", "a#2"]
    world.ready("a#2")
    again = world.ask("a", 8, spread=2, max_instances=1, uid=2)
    assert world.granted() == [held, mine, again]
    last = world.ask("a", 8, spread=2, max_instances=1, uid=2)
    assert world.waiting() == [last], "its own two slots are taken: that one counts"


def test_one_of_others_with_a_free_slot_counts_and_serves() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    held = world.ask("a", 8, spread=2, uid=1)
    world.ready("a#1")
    mine = world.ask("a", 8, spread=2, max_instances=1, uid=2)
    assert world.granted() == [held, mine]
    assert world.started() == ["a#1"]


def test_who_is_limited_does_not_put_off_another_uid_that_is_not_served_alike() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    first = world.ask("a", 8, max_instances=1, uid=1)
    world.ready("a#1")
    waits = world.ask("a", 8, max_instances=1, uid=1)
    other = world.ask("a", 8, max_instances=1, uid=2)
    world.ready("a#2")
    assert world.granted() == [first, other]
    assert world.waiting() == [waits]


def test_others_may_have_more() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    world.ask("a", 8, max_instances=1)
    world.ask("a", 8)
    assert world.started() == ["a#1", "a#2"]


def test_who_asks_again_has_the_slot_that_it_waited_for() -> None:
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    world.ask("a", 8, key="k")
    assert world.started() == ["a#1"]
    again = world.ask("a", 8, wait=0, key="k")
    assert world.started() == ["a#1"], "one lease is meant"
    world.ready("a#1")
    assert world.granted() == [again]


def test_what_is_asked_to_yield_does_not_count_any_more() -> None:
    world = World({"x": Gpu(capacity=10 * GIB), "y": Gpu(capacity=10 * GIB)})
    world.ask("b", 8)
    world.ready("b#1")
    waits = world.ask("b", 8, max_instances=1)
    assert world.waiting() == [waits]
    (device,) = world.instance("b#1").demand
    world.give_way(9 * GIB, 60.0, device=device, id="y-1")
    assert world.instance("b#1").yielding
    assert world.waiting() == []
    assert world.started() == ["b#1", "b#2"]


def test_what_it_waits_for_is_told_even_if_nobody_knows_for_how_long() -> None:
    """A forgotten lease of a pinned model kept the gateway waiting, and the queue said nothing of why."""
    world = World({"gpu": Gpu(capacity=80 * GIB)})
    world.ask("a", 8, max_instances=1, pin=True, hold=Hold.EXPLICIT)
    world.ready("a#1")
    world.seen("a#1")
    world.tick(1000)
    world.seen("a#1")
    waits = world.ask("a", 8, max_instances=1)
    assert world.waiting() == [waits]
    told = world.last(ReportProgress)
    assert (told.ticket, told.eta, told.waits_for) == (waits, None, ("a#1",))
