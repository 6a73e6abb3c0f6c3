"""Holds: what their processes take counts for their holders, and never against the leases of others."""

from __future__ import annotations

import pytest
from core.world import GIB, Gpu, World

from lmxd.core.decisions import AskToYield, EndLease
from lmxd.core.rules import Quota


def hold(world: World, gib: float, takes: float, uid: int = 1) -> str:
    """A user holds ``gib``, and the process takes ``takes``."""
    before = set(world.state.instances)
    world.ask("hold", gib, uid=uid, external=True, share=False, variant="hold")
    (name,) = set(world.state.instances) - before
    world.ready(name)
    world.devices["gpu"].processes[name] = int(takes * GIB)
    return name


def press(world: World) -> None:
    """The device stays short, and is looked at."""
    for _ in range(4):
        world.tick(1.0)
        world.measure()


def test_a_hold_that_took_more_than_its_promise_goes_before_the_leases_of_others() -> None:
    world = World({"gpu": Gpu(capacity=16 * GIB)})
    world.ask("a", 8, uid=2)
    world.ready("a#1")
    name = hold(world, 1 / GIB, takes=9)
    press(world)
    assert world.stopped() == [(name, "pressure")]
    assert [(e.owner.uid, e.reason) for e in world.all(EndLease)] == [(1, "yielded")]
    assert not world.all(AskToYield)


def test_only_as_many_go_as_are_needed_those_of_the_most_excess_first() -> None:
    world = World({"gpu": Gpu(capacity=16 * GIB)})
    world.ask("a", 8, uid=2)
    world.ready("a#1")
    kept, gone, honest = hold(world, 1, takes=2), hold(world, 1, takes=7), hold(world, 2, takes=2)
    press(world)
    assert world.stopped() == [(gone, "pressure")]
    assert {kept, honest, "a#1"} <= {name for name, i in world.state.instances.items() if i.live}
    assert not world.all(AskToYield)


def test_what_the_process_of_a_hold_takes_counts_for_the_quota() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)}, quotas={1: Quota(max_bytes=10 * GIB)})
    name = hold(world, 1, takes=9)
    world.measure()
    assert world.state.shares.by_uid[1].bytes == 9 * GIB
    waits = world.ask("a", 4, uid=1)
    assert world.waiting() == [waits]
    world.gone(name)
    assert world.started()[-1] == "a#1"


def test_a_user_has_so_many_holds_and_no_more_and_others_have_theirs() -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)}, quotas={2: Quota(max_holds=None)})
    for _ in range(128):
        hold(world, 1 / GIB, takes=0)
    beyond = world.ask("hold", 1 / GIB, uid=1, external=True, share=False, variant="hold")
    assert world.refused() == {beyond: "over_quota"}
    for _ in range(129):
        hold(world, 1 / GIB, takes=0, uid=2)
    world.release("t1")
    world.gone("hold#1")
    hold(world, 1 / GIB, takes=0)
    assert world.refused() == {beyond: "over_quota"}


def test_holds_that_wait_count_as_well() -> None:
    world = World({"gpu": Gpu(capacity=8 * GIB)}, queue_depth=50, default=Quota(max_holds=3))
    hold(world, 8, takes=8)
    waits = [world.ask("hold", 1, uid=1, external=True, share=False, variant="hold") for _ in range(3)]
    assert (world.waiting(), world.refused()) == (waits[:2], {waits[2]: "over_quota"})


@pytest.mark.parametrize("most", [None, 1030])
def test_leases_are_bounded_by_1024_unless_the_configuration_says_more(most: int | None) -> None:
    world = World({"gpu": Gpu(capacity=64 * GIB)}, queue_depth=50, default=Quota(max_leases=most))
    world.ask("a", 8, spread=2000)
    world.ready("a#1")
    for _ in range(1023):
        world.ask("a", 8, spread=2000)
    assert len(world.granted()) == 1024
    beyond = world.ask("a", 8, spread=2000)
    assert world.refused() == ({beyond: "over_quota"} if most is None else {})
    world.ask("a", 8, uid=2, spread=2000)
    assert len(world.granted()) == (1025 if most is None else 1026)
