"""Stories of how room is made and kept: eviction, residency, thrash, residents, holds, yields, preemption."""

from __future__ import annotations

from typing import Any

import pytest
from core.world import GIB, Gpu, World, lease_of, placed

from lmxd.core.decisions import AskToYield, EndLease, RefuseLease, StopInstance
from lmxd.core.events import TimePassed
from lmxd.core.orders import ResidentsChanged, YieldEnded
from lmxd.core.rules import Quota, Resident
from lmxd.core.words import Ask, Failure, Option, YieldId


def idle(world: World, name: str, gib: float, **more: Any) -> None:
    """An instance that nobody has any more."""
    ticket = world.ask(name, gib, **more)
    world.ready(f"{name}#1")
    world.release(ticket)
    world.seen(f"{name}#1")


def asked_to_yield(world: World) -> dict[str, float | None]:
    return {x.lease: x.within for x in world.all(AskToYield) if isinstance(x, AskToYield)}


def test_the_cheapest_set_is_evicted_not_the_longest_idle() -> None:
    world = World()
    idle(world, "slow", 10)
    world.pass_time(5)
    idle(world, "quick", 10)
    for name, seconds in (("slow", 60.0), ("quick", 2.0)):
        world.state.expectations.launches[name] = seconds
    world.seen("slow#1")
    world.ask("c", 12)
    assert world.stopped() == [("quick#1", "evicted")], "it is back in 2 s, the other one in 60"


def test_one_that_is_often_wanted_is_dearer_than_one_that_is_not() -> None:
    world = World()
    for name in ("often", "seldom"):
        idle(world, name, 10, idle_timeout=1e6)
        world.state.expectations.launches[name] = 5.0
    world.state.expectations.gaps |= {"often": 1000.0, "seldom": 1000.0}
    world.instance("seldom#1").active_at -= 5000
    world.seen("often#1")
    world.seen("seldom#1")
    world.ask("c", 12)
    assert world.stopped() == [("seldom#1", "evicted")]


def test_two_cheap_ones_go_rather_than_a_dear_one() -> None:
    world = World()
    for name, gib, seconds in (("dear", 12, 90.0), ("one", 6, 3.0), ("two", 6, 3.0)):
        idle(world, name, gib)
        world.state.expectations.launches[name] = seconds
    for name in ("dear", "one", "two"):
        world.seen(f"{name}#1")
    world.ask("c", 12)
    assert sorted(world.stopped()) == [("one#1", "evicted"), ("two#1", "evicted")]


def test_what_ends_is_on_the_right_device() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)})
    ticket = world.ask("a", {"y": 20})
    world.ready("a#1")
    world.release(ticket)
    world.seen("a#1")
    world.ask("holder", {"x": 20})
    world.ready("holder#1")
    world.ask("c", {"x": 12})
    assert world.stopped() == [], "the idle one is on the other device"


def test_whose_quota_is_free_again_as_a_start_has_to_make_way_is_served_at_once() -> None:
    """Found by the random histories."""
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=12 * GIB)}, grace=5, quotas={3: Quota(max_leases=1)})
    first, second = world.ask("big", 20, uid=3), world.ask("small", 2, uid=3)
    assert world.waiting() == [second], "that is more than the quota allows"
    world.give_way(10 * GIB, 60, device="x")
    world.tick(30)
    assert world.refused() == {first: "stopped"}
    assert world.started() == ["big#1", "small#1"]


def resident(name: str, gib: int, **more: Any) -> ResidentsChanged:
    ask = Ask(
        profile=name, variant="v", context=4096, slots=1, spread=1, options=(placed({"gpu": gib * GIB}),),
        idle_timeout=10,
    )  # fmt: skip
    return ResidentsChanged(at=0.0, residents=(Resident(ask=ask, **more),))


def test_what_is_kept_is_started_neither_evicted_nor_reaped_and_replaced() -> None:
    world = World()
    world.happen(resident("k", 8, keep=1))
    world.ready("k#1")
    world.pass_time(100)
    world.seen("k#1")
    waiting = world.ask("b", 20)
    assert world.stopped() == []
    world.gone("k#1")
    world.ready("b#1")
    assert world.granted() == [waiting]
    assert world.started() == ["k#1", "b#1"], "who waits comes before what is kept"
    world.gone("b#1")
    assert world.started()[-1] == "k#2"


def test_a_preloaded_one_is_started_once_and_then_is_like_any() -> None:
    world = World()
    world.happen(resident("p", 8, preload=True))
    world.ready("p#1")
    world.pass_time(100)
    world.seen("p#1")
    assert world.stopped() == [("p#1", "idle")]
    world.gone("p#1")
    world.tick(10)
    assert world.started() == ["p#1"]


def test_a_launch_that_failed_is_not_tried_again_in_a_loop() -> None:
    world = World()
    broken = Failure(code="bad_model", message="no tensor")
    for number, pause in ((1, 5), (2, 10), (3, 20)):
        world.ask("a", 4)
        world.exited(f"a#{number}", broken)
        world.measure()
        early = world.ask("a", 4)
        assert world.refused()[early] == "launch_failed"
        assert len(world.started()) == number, "it is answered without a launch"
        refusal = world.last(RefuseLease).refusal
        assert refusal.retry_in == pytest.approx(pause, abs=0.01)
        assert refusal.remedy.startswith("fetch the model again")
        assert refusal.remedy.endswith("then wait, or lmxctl reload")
        world.pass_time(pause)
    world.ask("a", 4)
    world.ready("a#4")
    assert world.state.failed == {}, "one that comes up is forgiven"


def test_what_says_its_own_remedy_gets_no_second_one() -> None:
    world = World()
    world.ask("a", 4)
    world.exited("a#1", Failure(code="engine_missing", message="there is none (install it)"))
    assert world.last(RefuseLease).refusal.remedy == ""
    world.measure()
    world.ask("a", 4)
    assert world.last(RefuseLease).refusal.remedy == "wait, or lmxctl reload"


def test_another_size_of_what_failed_may_be_tried() -> None:
    world = World()
    world.ask("a", 4, context=8192)
    world.exited("a#1", Failure(code="out_of_memory", message="x"))
    world.measure()
    world.ask("a", 2, context=4096)
    assert world.started() == ["a#1", "a#2"]


def test_leases_share_an_instance_at_no_bytes_and_one_start() -> None:
    world = World()
    tickets = [world.ask("a", 10, spread=3) for _ in range(3)]
    assert world.started() == ["a#1"], "three that come at once cause one start"
    world.ready("a#1")
    assert world.granted() == tickets
    assert world.headroom() == 14


def test_who_does_not_share_has_an_instance_alone() -> None:
    world = World()
    world.ask("a", 10, spread=3, share=False)
    world.ready("a#1")
    world.ask("a", 10, spread=3)
    assert world.started() == ["a#1", "a#2"]
    first = World()
    first.ask("a", 10, spread=3)
    first.ready("a#1")
    first.ask("a", 10, spread=3, share=False)
    assert first.started() == ["a#1", "a#2"]


def test_a_hold_has_its_bytes_and_ends_with_its_lease() -> None:
    world = World()
    ticket = world.ask("hold", 9, external=True)
    world.ready("hold#1", takes=11)
    assert world.granted() == [ticket]
    assert world.headroom() == 13, "the larger of what was promised and what is measured"
    world.pass_time(10_000)
    world.seen("hold#1")
    assert world.stopped() == [], "a hold is not reaped"
    world.release(ticket)
    assert world.stopped() == [("hold#1", "released")]


def test_growing_foreign_memory_ends_idle_instances_then_asks_the_holders() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, margin=2 * GIB)}, grace=30.0)
    idle(world, "idle", 6)
    held = world.ask("held", 10)
    world.ready("held#1")
    world.devices["gpu"].foreign = 8 * GIB
    world.measure()
    assert world.headroom() == -2
    world.tick(2.5)
    world.seen("idle#1")
    world.measure()
    assert world.stopped() == [("idle#1", "pressure")]
    assert asked_to_yield(world) == {}, "that was enough"
    world.gone("idle#1")
    world.devices["gpu"].foreign = 16 * GIB
    world.measure()
    world.tick(2.5)
    assert asked_to_yield(world) == {lease_of(held): 30.0}
    world.seen("held#1", busy=True)
    world.tick(31)
    assert world.stopped()[-1][0] != "held#1", "not in the middle of a generation"
    world.seen("held#1")
    world.tick(0.1)
    assert world.stopped()[-1] == ("held#1", "pressure")
    assert world.all(EndLease)[-1].reason == "yielded"


def test_nothing_is_admitted_into_the_margin() -> None:
    world = World({"gpu": Gpu(capacity=24 * GIB, margin=2 * GIB, foreign=21 * GIB)})
    small = world.ask("x", 2)
    assert world.waiting() == [small]


def test_a_spike_of_foreign_memory_passes() -> None:
    world = World()
    idle(world, "idle", 10)
    world.devices["gpu"].foreign = 20 * GIB
    world.measure()
    world.tick(1)
    world.devices["gpu"].foreign = 0
    world.measure()
    world.tick(5)
    assert world.stopped() == []


def test_a_holder_that_was_asked_is_told_when_it_may_stay() -> None:
    world = World(grace=30.0)
    held = world.ask("held", 20)
    world.ready("held#1")
    world.devices["gpu"].foreign = 10 * GIB
    world.measure()
    world.tick(2.5)
    assert asked_to_yield(world) == {lease_of(held): 30.0}
    world.devices["gpu"].foreign = 0
    world.measure()
    assert asked_to_yield(world) == {lease_of(held): None}
    world.tick(100)
    assert world.stopped() == []


def test_a_yield_makes_room_and_gives_back_what_was_pinned() -> None:
    world = World(grace=10.0)
    idle(world, "pinned", 10, pin=True)
    held = world.ask("held", 10)
    world.ready("held#1")
    world.seen("pinned#1")
    world.give_way(12 * GIB, 100.0)
    assert world.stopped() == [("pinned#1", "pressure")], "for a yield a pinned one goes, too"
    world.gone("pinned#1")
    assert asked_to_yield(world) == {}, "12 are free"
    assert world.headroom() == 2
    world.devices["gpu"].foreign = 12 * GIB
    world.measure()
    assert world.headroom() == 2, "what the game takes is not kept twice"
    world.devices["gpu"].foreign = 0
    world.measure()
    world.tick(101)
    assert world.started()[-1] == "pinned#2"
    assert held in world.granted()


def test_a_yield_that_idle_instances_cannot_serve_asks_the_holders() -> None:
    world = World(grace=10.0)
    held = world.ask("held", 20)
    world.ready("held#1")
    world.give_way(12 * GIB, 100.0)
    assert asked_to_yield(world) == {lease_of(held): 10.0}
    world.happen(YieldEnded(at=world.now, id=YieldId("y")))
    assert asked_to_yield(world) == {lease_of(held): None}


def test_a_higher_class_asks_then_waits_and_never_cuts_a_generation() -> None:
    world = World(grace=10.0)
    low = world.ask("low", 20)
    world.ready("low#1")
    high = world.ask("high", 20, priority=1)
    assert asked_to_yield(world) == {lease_of(low): 10.0}
    world.seen("low#1", busy=True, worked=True)
    world.tick(11)
    assert world.stopped() == [], "it is generating"
    world.seen("low#1")
    world.tick(0.1)
    assert world.stopped() == [("low#1", "preempted")]
    world.gone("low#1")
    world.ready("high#1")
    assert high in world.granted()


def test_a_generation_is_cut_only_if_the_configuration_says_so() -> None:
    world = World(grace=10.0, cut=True)
    world.ask("low", 20)
    world.ready("low#1")
    world.ask("high", 20, priority=1)
    world.devices["gpu"].processes["low#1"] = 20 * GIB
    world.instance("low#1").busy = True
    decided = world.admission.handle(TimePassed(at=world.now + 11)).decisions
    assert [x.cause.value for x in decided if isinstance(x, StopInstance)] == ["preempted"]


def test_the_same_class_is_never_asked_nor_a_pinned_one() -> None:
    for more in ({"priority": 1}, {"pin": True}):
        world = World()
        world.ask("a", 20, **more)
        world.ready("a#1")
        world.ask("b", 20, priority=1)
        assert asked_to_yield(world) == {}


def test_preemption_can_be_switched_off() -> None:
    world = World(preempt=False)
    world.ask("a", 20)
    world.ready("a#1")
    world.ask("b", 20, priority=1)
    assert asked_to_yield(world) == {}


def test_one_device_is_preferred_to_two_and_a_gpu_to_ram() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)})
    single = placed({"x": 20 * GIB})
    split = placed({"x": 8 * GIB, "y": 13 * GIB}, split=(10, 16))
    spilled = placed({"x": 4 * GIB}, gpu_layers=4, spills=22)
    for _ in range(3):
        world.ask("a", options=(spilled, split, single))
    chosen = [world.instance(name).option for name in world.started()]
    assert chosen == [single, spilled]
    other = World({"x": Gpu(capacity=12 * GIB), "y": Gpu(capacity=24 * GIB)})
    other.ask("a", options=(spilled, split, single))
    assert other.instance("a#1").option == split, "no single device has room"


def divided(gib: float, spills: int) -> Option:
    return placed({"gpu": int(gib * GIB)}, gpu_layers=32 - spills, spills=spills)


def test_an_idle_instance_goes_before_anything_runs_in_ram() -> None:
    world = World()
    idle(world, "old", 10)
    world.ask("new", options=(divided(20, 0), divided(13, 8), divided(5, 20)))
    assert world.stopped() == [("old#1", "evicted")]
    world.gone("old#1")
    assert world.instance("new#1").option.spills == 0


def test_beside_those_in_use_the_most_that_fits_goes_on_the_gpu() -> None:
    world = World()
    world.ask("used", 10)
    world.ready("used#1")
    world.ask("new", options=(divided(20, 0), divided(13, 8), divided(5, 20)))
    assert world.instance("new#1").option.spills == 8
    assert world.stopped() == []


def test_idle_ones_go_for_less_in_ram_where_all_of_it_never_fits() -> None:
    world = World()
    idle(world, "old", 10)
    world.ask("new", options=(divided(90, 0), divided(20, 8), divided(5, 20)))
    assert world.stopped() == [("old#1", "evicted")]
    world.gone("old#1")
    assert world.instance("new#1").option.spills == 8


def test_one_that_is_too_slow_for_a_request_does_not_serve_it() -> None:
    world = World()
    first = world.ask("a", spread=2, options=(divided(30, 0), divided(5, 20)))
    world.ready("a#1")
    assert world.instance("a#1").option.spills == 20
    second = world.ask("a", spread=2, options=(divided(30, 0), divided(15, 8)))
    third = world.ask("a", spread=2, options=(divided(30, 0), divided(5, 20)))
    assert {lease.id for lease in world.instance("a#1").leases.values()} == {lease_of(first), lease_of(third)}
    assert world.instance("a#2").option.spills == 8
    assert world.state.tickets[second].instance == "a#2"


def test_a_hold_is_asked_but_never_ended() -> None:
    world = World(grace=5.0)
    held = world.ask("hold", 20, external=True)
    world.ready("hold#1")
    world.give_way(12 * GIB, 100.0)
    assert asked_to_yield(world) == {lease_of(held): 5.0}
    world.tick(20)
    world.seen("hold#1")
    world.tick(1.1)
    assert world.stopped() == [], "its process is not ours"


def test_an_instance_that_one_of_the_same_class_shares_is_not_asked() -> None:
    world = World()
    world.ask("a", 20, spread=2)
    world.ready("a#1")
    world.ask("a", 20, spread=2, priority=1)
    world.ask("b", 20, priority=1)
    assert asked_to_yield(world) == {}
