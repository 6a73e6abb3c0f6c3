"""A larger instance of a model takes the place of the smaller one, where there may be no other beside it."""

from __future__ import annotations

from functools import partial

from core.clients import Clients
from core.world import GIB, Gpu, World, placed

from lmxd.core.orders import ResidentsChanged
from lmxd.core.rules import Resident
from lmxd.core.words import Ask


def one_card() -> World:
    return World({"gpu": Gpu(capacity=96 * GIB)}, queue_depth=500)


def test_there_are_never_more_instances_of_a_model_than_allowed_whatever_their_size() -> None:
    """Five sizes at once were five instances, each for a request that would not end."""
    world = one_card()
    clients = Clients(world, loads={"a": 5.0}, works={"a": 60.0})
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, sum(i.live for i in world.state.instances.values()))
        clients.after(0.5, look)

    look()
    served: list[int] = []
    for n in range(5):
        clients.ask(f"c{n}", "a", 4, partial(served.append, n), max_instances=1, context=4096 * (n + 1))
    clients.run(600)
    assert most == 1
    assert sorted(served) == [0, 1, 2, 3, 4]


def test_an_idle_instance_that_is_too_small_goes_at_once() -> None:
    world = one_card()
    first = world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    world.release(first)
    world.pass_time(60)
    world.ask("a", 8, max_instances=1, context=8192)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    assert world.started() == ["a#1", "a#2"]


def test_a_smaller_request_is_served_by_a_larger_instance() -> None:
    world = one_card()
    first = world.ask("a", 8, max_instances=1, context=8192)
    world.ready("a#1")
    world.release(first)
    second = world.ask("a", 4, max_instances=1, context=1024)
    assert second in world.granted()
    assert world.started() == ["a#1"]


def test_a_larger_request_is_not_put_off_for_ever_by_smaller_ones() -> None:
    world = one_card()
    clients = Clients(world, loads={"a": 5.0}, works={"a": 1.0})
    for n in range(3):
        clients.after(n, partial(clients.loop, f"small{n}", ["a"], 4, max_instances=1))
    served: list[float] = []
    clients.after(
        30, lambda: clients.ask("large", "a", 8, lambda: served.append(world.now), max_instances=1, context=8192)
    )
    clients.run(200)
    assert served
    assert clients.answers["small0"] > 20


def test_a_pinned_instance_stays_and_the_larger_one_runs_beside_it() -> None:
    world = one_card()
    world.ask("a", 4, max_instances=1, pin=True)
    world.ready("a#1")
    world.ask("a", 8, max_instances=1, context=8192)
    assert world.started() == ["a#1", "a#2"]


def test_a_kept_instance_stays_and_the_larger_one_runs_beside_it() -> None:
    world = one_card()
    options = (placed({"gpu": 4 * GIB}),)
    ask = Ask(profile="a", variant="v", context=4096, slots=1, spread=1, options=options)
    world.happen(ResidentsChanged(at=world.now, residents=(Resident(ask=ask, keep=1),)))
    first = world.ask("a", 4, max_instances=1)
    world.ready("a#1")
    world.release(first)
    world.pass_time(60)
    world.ask("a", 8, max_instances=1, context=8192)
    assert world.started() == ["a#1", "a#2"]
