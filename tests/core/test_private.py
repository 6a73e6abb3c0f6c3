"""Private instances: from its start to its end, one serves one user and no other."""

from __future__ import annotations

from core.world import GIB, Gpu, World

ANNA, BEN = (9, "anna"), (9, "ben")


def ask(world: World, who: tuple[int, str], **more: object) -> str:
    return world.ask("a", 8, uid=who[0], user=who[1], private_to=who, **more)  # type: ignore[arg-type]


def left_idle(world: World) -> str:
    """A lease of Anna's that is over; her instance is ready and seen idle."""
    first = ask(world, ANNA)
    world.ready("a#1")
    world.release(first)
    world.seen("a#1")
    return first


def test_a_private_instance_serves_its_user_again_and_nobody_else() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    first = left_idle(world)
    other = ask(world, BEN)
    assert world.started() == ["a#1", "a#2"], "another key of the same gateway is another user"
    again = ask(world, ANNA)
    assert world.granted() == [first, again]
    world.ready("a#2")
    assert world.granted()[-1] == other


def test_slots_that_are_free_are_free_for_its_user_alone() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    ask(world, ANNA, spread=4)
    ask(world, ANNA, spread=4)
    ask(world, BEN, spread=4)
    world.ask("a", 8, uid=9, spread=4)
    assert world.started() == ["a#1", "a#2", "a#3"]
    assert len(world.instance("a#1").tickets) == 2


def test_an_idle_one_makes_way_for_another_user() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)})
    left_idle(world)
    waits = ask(world, BEN, max_instances=1)
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    world.ready("a#2")
    assert world.granted()[-1] == waits


def test_one_in_use_makes_way_after_its_turn() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)}, quantum_loads=0.0)
    first = ask(world, ANNA)
    world.ready("a#1")
    waits = ask(world, BEN)
    world.tick(1.0)
    again = ask(world, ANNA)
    world.release(first)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    world.ready("a#2")
    assert world.granted() == [first, waits]
    assert world.waiting() == [again]
