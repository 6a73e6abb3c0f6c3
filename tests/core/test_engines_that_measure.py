"""An engine that measures its device while it loads is not disturbed by what we end; nobody waits for it for ever."""

from __future__ import annotations

from core.world import GIB, Gpu, World

from lmxd.core.events import InstanceExited, LoadBegun, LoadPostponed
from lmxd.core.words import Failure, Hold, InstanceId


def world(**rules: object) -> World:
    return World({"gpu": Gpu(capacity=24 * GIB), "other": Gpu(capacity=24 * GIB)}, **rules)


def idle(world: World, model: str, gib: float, *, timeout: float = 1000.0) -> str:
    """An instance on the first card that has nothing to do."""
    before = set(world.started())
    option = (world.placed({"gpu": int(gib * GIB)}),)
    ticket = world.ask(model, gib, idle_timeout=timeout, options=option, hold=Hold.EXPLICIT)
    (name,) = set(world.started()) - before
    world.ready(name)
    world.release(ticket)
    world.seen(name)
    return name


def measuring(world: World, gib: float = 6, seconds: float = 60.0) -> str:
    """An engine that begins to load on the first card, and measures it."""
    before = set(world.started())
    world.ask("vllm", gib, measures=seconds, options=(world.placed({"gpu": int(gib * GIB)}),), hold=Hold.EXPLICIT)
    (name,) = set(world.started()) - before
    return name


def want(world: World, gib: float) -> str:
    """Somebody who wants bytes of the first card, and waits for them."""
    return world.ask("big", gib, options=(world.placed({"gpu": int(gib * GIB)}),), hold=Hold.EXPLICIT)


def pass_seconds(world: World, seconds: int, *names: str) -> None:
    for _ in range(seconds):
        world.tick(1.0)
        for name in names:
            world.seen(name)


def test_one_that_is_due_to_be_reaped_stays_until_the_engine_has_loaded() -> None:
    w = world()
    there = idle(w, "a", 8, timeout=5.0)
    loading = measuring(w)
    pass_seconds(w, 20, there)
    assert w.stopped() == []
    w.ready(loading)
    pass_seconds(w, 1, there)
    assert w.stopped() == [(there, "idle")]


def test_one_on_another_card_goes_as_ever() -> None:
    w = world()
    ticket = w.ask("a", 8, idle_timeout=5.0, options=(w.placed({"other": 8 * GIB}),), hold=Hold.EXPLICIT)
    (there,) = w.started()
    w.ready(there)
    w.release(ticket)
    measuring(w)
    pass_seconds(w, 7, there)
    assert w.stopped() == [(there, "idle")]


def test_who_needs_its_bytes_waits_until_the_engine_has_loaded() -> None:
    w = world()
    there = idle(w, "a", 12)
    loading = measuring(w)
    want(w, 14)
    pass_seconds(w, 20, there)
    assert w.stopped() == []
    w.ready(loading)
    w.seen(there)
    w.tick()
    assert w.stopped() == [(there, "evicted")]
    w.gone(there)
    assert w.started()[-1] == "big#1"


def test_who_fits_beside_it_does_not_wait() -> None:
    w = world()
    idle(w, "a", 8)
    measuring(w)
    want(w, 4)
    assert w.started()[-1] == "big#1"


def test_an_engine_that_does_not_measure_holds_nobody_up() -> None:
    w = world()
    there = idle(w, "a", 12)
    measuring(w, seconds=0.0)
    want(w, 14)
    w.seen(there)
    w.tick()
    assert w.stopped() == [(there, "evicted")]


def test_a_load_that_fails_or_takes_too_long_holds_nobody_up() -> None:
    for fails in (True, False):
        w = world()
        there = idle(w, "a", 12)
        loading = measuring(w, seconds=30.0)
        want(w, 14)
        pass_seconds(w, 10, there)
        assert w.stopped() == []
        if fails:
            failure = Failure(code="disturbed", message="others freed memory")
            w.happen(InstanceExited(at=w.now, instance=InstanceId(loading), failure=failure))
            pass_seconds(w, 1, there)
        else:
            pass_seconds(w, 25, there)
        assert w.stopped() == [(there, "evicted")], fails


def test_one_that_waits_to_load_measures_nothing_yet() -> None:
    w = world()
    there = idle(w, "a", 12)
    loading = InstanceId(measuring(w))
    w.happen(LoadPostponed(at=w.now, instance=loading))
    want(w, 14)
    pass_seconds(w, 2, there)
    assert w.stopped() == [(there, "evicted")]


def test_its_time_begins_when_it_begins_to_load() -> None:
    w = world()
    there = idle(w, "a", 12)
    loading = InstanceId(measuring(w, seconds=30.0))
    w.happen(LoadPostponed(at=w.now, instance=loading))
    pass_seconds(w, 25, there)
    w.happen(LoadBegun(at=w.now, instance=loading))
    want(w, 14)
    pass_seconds(w, 20, there)
    assert w.stopped() == []
    pass_seconds(w, 12, there)
    assert w.stopped() == [(there, "evicted")]


def test_an_administrator_is_not_held_up() -> None:
    w = world()
    there, other = idle(w, "a", 8), idle(w, "b", 4)
    measuring(w)
    w.stop(there)
    assert w.stopped() == [(there, "admin")]
    w.gone(there)
    w.give_way(18 * GIB, 100.0)
    pass_seconds(w, 3, other)
    assert (other, "pressure") in w.stopped()


def test_of_two_that_measure_neither_is_ended_for_others_and_one_that_nobody_wants_is() -> None:
    w = world()
    first = measuring(w, 8)
    w.tick(1.0)
    second = w.ask("vllm2", 8, measures=60.0, options=(w.placed({"gpu": 8 * GIB}),), connection=2)
    w.leave(2)
    want(w, 14)
    pass_seconds(w, 3)
    assert w.stopped() == []
    w.ready(first)
    pass_seconds(w, 3)
    assert w.stopped() == [("vllm2#1", "unwanted")], second
