"""Stories of requests that waited at another node of a fleet before they came here."""

from __future__ import annotations

from core.world import World

from lmxd.core.rules import Policy

CAP = Policy().waited_elsewhere


def test_who_waited_elsewhere_stands_where_it_would_have_here() -> None:
    world = World()
    world.ask("a", 20)
    world.pass_time(100)
    here = world.ask("b", 20)
    world.pass_time(10)
    longer, shorter = world.ask("c", 20, waited=30), world.ask("d", 20, waited=5)
    assert world.waiting() == [longer, here, shorter]


def test_waiting_elsewhere_counts_up_to_the_rule() -> None:
    world = World(fairness=0.0)
    world.ask("a", 20)
    here = world.ask("b", 20)
    world.pass_time(CAP - 1)
    traveller = world.ask("c", 20, waited=10 * CAP)
    world.pass_time(2)
    late = world.ask("d", 20, waited=10 * CAP)
    assert world.waiting() == [traveller, here, late]


def test_nobody_here_starves_by_a_stream_of_those_who_waited_elsewhere() -> None:
    world = World(fairness=0.0, queue_depth=100, waited_elsewhere=20.0)
    holding = world.ask("hot", 20)
    world.ready("hot#1")
    local = world.ask("local", 20)
    asked_at = world.now
    while not world.stopped():
        following = world.ask("hot", 20, waited=1e6)
        world.tick(3)
        world.release(holding)
        holding = following
        world.seen("hot#1")
        world.measure()
        assert world.now - asked_at <= 20 + 3 * 3, "later than the rule, and those who had asked before that"
    assert world.stopped() == [("hot#1", "evicted")]
    world.gone("hot#1")
    world.ready("local#1")
    assert local in world.granted()


def test_a_traveller_does_not_starve_however_often_it_moves() -> None:
    """Those who were first there stand behind it, if they came later than it did anywhere."""
    world = World(fairness=0.0, queue_depth=100)
    holding = world.ask("hot", 20)
    world.ready("hot#1")
    traveller, waited = world.ask("cold", 20), 0.0
    for _ in range(3):
        world.pass_time(1)
        waited += 1
        others = [world.ask("hot", 20), world.ask("other", 20)]
        world.pass_time(10)
        waited += 10
        world.cancel(traveller)
        traveller = world.ask("cold", 20, waited=waited)
        assert world.waiting()[0] == traveller
        assert set(others) <= set(world.waiting())
    assert holding in world.granted()


def test_waiting_elsewhere_gives_no_place_in_a_full_queue() -> None:
    world = World(queue_depth=1)
    world.ask("a", 20)
    here = world.ask("b", 20)
    traveller = world.ask("c", 20, waited=50)
    assert world.waiting() == [here]
    assert world.refused() == {traveller: "queue_full"}


def test_a_repeated_request_does_not_count_its_waiting_twice() -> None:
    world = World()
    world.ask("a", 20)
    world.pass_time(40)
    between = world.ask("b", 20)
    world.pass_time(7)
    again = world.ask("c", 20, key="k", waited=5, asked_at=world.now - 5)
    assert world.waiting() == [between, again], "it would be first with twice the 5 s"
