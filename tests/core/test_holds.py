"""Holds: what their processes take counts for their holders, and never against the leases of others."""

from __future__ import annotations

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
