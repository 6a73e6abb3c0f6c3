"""Stories of sleep: who is put to sleep instead of ended, what that frees, and who is woken for whom."""

from __future__ import annotations

from typing import Any

import pytest
from core.world import GIB, Gpu, World

from lmxd.core.decisions import GrantLease, ReportProgress, StopInstance
from lmxd.core.events import LedgerRestored
from lmxd.core.instances import Instance
from lmxd.core.orders import DrainRequested, KeepAliveChanged, PinChanged, PolicyChanged, ResidentsChanged
from lmxd.core.rules import Policy, Resident
from lmxd.core.words import Cause, Failure, InstanceId, Phase


def machine(card: int = 24, ram: int = 64, **rules: Any) -> World:
    return World({"gpu": Gpu(capacity=card * GIB), "host": Gpu(capacity=ram * GIB, lags=False)}, **rules)


def on_card(gib: float) -> dict[str, float]:
    return {"gpu": gib}


def idle(world: World, name: str, gib: float = 20, *, sleeps: float = 16, **more: Any) -> None:
    ticket = world.ask(name, on_card(gib), sleeps=sleeps, **more)
    world.ready(f"{name}#1")
    world.release(ticket)
    world.seen(f"{name}#1")


def napping(world: World, name: str = "a", gib: float = 20, **more: Any) -> str:
    """An instance that sleeps since another was started, which is idle by now; returns the other's name."""
    idle(world, name, gib, **more)
    ticket = world.ask("other", on_card(gib))
    world.sleeps(f"{name}#1")
    world.ready("other#1")
    world.release(ticket)
    world.seen("other#1")
    return "other#1"


def test_an_idle_one_sleeps_for_another_and_is_woken_before_a_cold_start() -> None:
    world = machine()
    idle(world, "a")
    other = world.ask("b", on_card(20), sleeps=16)
    assert world.slumbers() == [("a#1", "sleep")]
    assert world.stopped() == []
    assert world.account("host").charged == 16 * GIB, "RAM is promised before the engine is told"
    world.sleeps("a#1")
    assert world.instance("a#1").phase is Phase.ASLEEP
    world.ready("b#1")
    assert world.granted()[-1] == other
    world.release(other)
    world.seen("b#1")
    again = world.ask("a", on_card(20), sleeps=16)
    assert world.slumbers()[1:] == [("b#1", "sleep")]
    world.sleeps("b#1")
    assert world.slumbers()[2:] == [("a#1", "wake")]
    assert world.instance("a#1").phase is Phase.WAKING
    world.woke("a#1")
    assert world.last(GrantLease).ticket == again
    assert world.started() == ["a#1", "b#1"], "nothing is loaded twice"


def test_bytes_are_credited_by_readings_alone_and_the_residue_stays_charged() -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(20))
    assert world.headroom() == 4
    world.slept("a#1", leaves=20)  # the engine says so, the card does not
    world.measure()
    world.measure()
    assert world.headroom() == 4
    assert world.started() == ["a#1"]
    world.devices["gpu"].processes["a#1"] = 9 * GIB
    world.measure()
    assert world.headroom() == 15, "what is seen free is credited at once"
    world.devices["gpu"].processes["a#1"] = GIB
    world.measure()
    assert world.started() == ["a#1", "b#1"]
    assert world.account().reservations[InstanceId("a#1")].charge == GIB


def test_a_reading_begun_before_the_engine_slept_credits_nothing() -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(20))
    world.devices["gpu"].processes["a#1"] = GIB
    world.measure()
    assert world.headroom() == 4


def test_a_device_that_does_not_tell_processes_apart_credits_nothing_by_itself() -> None:
    world = machine()
    world.devices["gpu"].attributes = False
    idle(world, "a")
    waiting = world.ask("b", on_card(20))
    world.sleeps("a#1")
    world.tick(6)
    assert world.stopped() == [("a#1", "sleepless")]
    world.gone("a#1")
    world.ready("b#1")
    assert world.granted()[-1] == waiting


def test_without_room_in_ram_it_is_ended_as_ever() -> None:
    world = machine(ram=10)
    idle(world, "a")
    world.ask("b", on_card(20))
    assert world.slumbers() == []
    assert world.stopped() == [("a#1", "evicted")]


def test_without_an_account_of_ram_it_is_ended_as_ever() -> None:
    world = machine()
    world.devices.pop("host")
    world.measure()
    idle(world, "a")
    world.ask("b", on_card(20))
    assert world.stopped() == [("a#1", "evicted")]


def test_one_that_would_leave_too_much_is_ended_at_once() -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(23.5))
    assert (world.slumbers(), world.stopped()) == ([], [("a#1", "evicted")]), "a residue of 1 GiB is expected"


def test_one_that_left_too_much_for_the_ask_is_ended_then() -> None:
    world = machine()
    idle(world, "a")
    waiting = world.ask("b", on_card(22.9))
    assert world.slumbers() == [("a#1", "sleep")]
    world.sleeps("a#1", leaves=3)
    assert world.stopped() == [("a#1", "evicted")]
    world.gone("a#1")
    world.ready("b#1")
    assert world.granted()[-1] == waiting


def test_what_it_is_expected_to_leave_is_promised_to_nobody_meanwhile() -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(20))
    hasty = world.ask("c", on_card(3.5), wait=0)
    assert world.refused() == {hasty: "no_capacity"}, "b takes 20 of the 23 GiB that there will be"


def test_what_it_left_is_remembered() -> None:
    world = machine()
    napping(world)
    assert world.state.residues == {"a": GIB // 2}


def test_one_that_frees_nothing_is_ended_and_its_model_does_not_sleep_again() -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(20))
    world.slept("a#1", leaves=20)
    world.measure()
    world.tick(5.1)
    assert world.stopped() == [("a#1", "sleepless")]
    world.gone("a#1")
    world.ready("b#1")
    world.release(world.granted()[-1])
    world.seen("b#1")
    world.ask("a", on_card(20), sleeps=16)
    world.gone("b#1")
    world.ready("a#2")
    world.release(world.granted()[-1])
    world.seen("a#2")
    world.ask("b", on_card(20))
    assert world.slumbers() == [("a#1", "sleep")]
    assert world.stopped()[-1] == ("a#2", "evicted")
    world.happen(PolicyChanged(at=world.now, policy=Policy()))
    assert world.state.residues == {}, "a reload forgets it"


def test_an_engine_that_does_not_fall_asleep_is_ended() -> None:
    world = machine()
    idle(world, "a")
    waiting = world.ask("b", on_card(20))
    world.sleep_failed("a#1")
    assert world.stopped() == [("a#1", "sleepless")]
    world.gone("a#1")
    world.ready("b#1")
    assert world.granted()[-1] == waiting


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("wait", [None, 0.0, 5.0])
def test_who_waits_for_one_that_does_not_wake_is_served_by_a_cold_start(dies: bool, wait: float | None) -> None:
    world = machine()
    other = napping(world)
    world.gone(other)
    waiting = world.ask("a", on_card(20), sleeps=16, wait=wait)
    assert world.slumbers()[-1] == ("a#1", "wake")
    world.pass_time(10)
    if dies:
        world.exited("a#1", Failure(code="crashed", message="it crashed"))
    else:
        world.sleep_failed("a#1")
        assert world.stopped()[-1] == ("a#1", "sleepless")
        world.exited("a#1")
    assert world.waiting() == [waiting]
    world.measure()
    world.ready("a#2")
    assert world.granted()[-1] == waiting
    assert world.refused() == {}


def test_a_wake_takes_its_turn_in_the_queue_and_others_make_way_for_it() -> None:
    world = machine()
    other = napping(world)
    busy = world.ask("other", on_card(20), sleeps=0)
    first, second = world.ask("c", on_card(20)), world.ask("a", on_card(20), sleeps=16)
    assert world.waiting() == [first, second]
    assert world.slumbers() == [("a#1", "sleep")]
    world.pass_time(60)
    world.release(busy)
    world.tick(1)
    world.seen(other)
    assert world.stopped() == [(other, "evicted")]
    world.gone(other)
    assert world.started()[-1] == "c#1", "who came first is first"
    world.ready("c#1")
    world.release(first)
    world.tick(1)
    world.seen("c#1")
    world.gone("c#1")
    assert world.slumbers()[-1] == ("a#1", "wake")
    world.woke("a#1")
    assert world.granted()[-1] == second


@pytest.mark.parametrize("dear", [False, True])
def test_others_make_way_for_a_wake_unless_a_load_elsewhere_is_cheaper(dear: bool) -> None:
    two = {name: Gpu(capacity=24 * GIB) for name in ("gpu", "other")}
    world = World({**two, "host": Gpu(capacity=64 * GIB, lags=False)})
    napping(world)
    world.tick(1)
    world.seen("other#1")
    world.state.expectations.launches |= {"a": 60.0, "other": 600.0 if dear else 1.0}
    world.ask("a", {"gpu": 20, "other": 20}, sleeps=16)
    if dear:
        assert world.started()[-1] == "a#2"
    else:
        assert world.stopped() == [("other#1", "evicted")]
        world.gone("other#1")
        assert world.slumbers()[-1] == ("a#1", "wake")


def test_a_wake_is_expected_sooner_than_a_load() -> None:
    world = machine()
    other = napping(world)
    world.gone(other)
    world.state.expectations.launches["a"] = 90.0
    world.ask("a", on_card(20), sleeps=16, deadline=30)
    told = world.last(ReportProgress)
    assert told.position == 0
    assert told.eta is not None
    assert told.eta < 10


def test_another_of_its_kind_shares_the_wake() -> None:
    world = machine()
    other = napping(world, spread=2)
    world.gone(other)
    both = [world.ask("a", on_card(20), sleeps=16, spread=2) for _ in range(2)]
    assert world.slumbers()[1:] == [("a#1", "wake")]
    world.woke("a#1")
    assert world.granted()[-2:] == both


def test_a_sleeper_ends_when_nobody_has_woken_it_for_its_idle_timeout() -> None:
    world = machine()
    napping(world, idle_timeout=30)
    world.tick(29)
    assert ("a#1", "idle") not in world.stopped()
    world.tick(2)
    assert ("a#1", "idle") in world.stopped()
    world.gone("a#1")
    assert world.account("host").charged == 0


def test_a_sleeper_is_unloaded_when_its_client_says_so() -> None:
    world = machine()
    napping(world)
    world.happen(KeepAliveChanged(at=world.now, instance=InstanceId("a#1"), seconds=0.0))
    world.tick(0.01)
    assert world.stopped() == [("a#1", "idle")]


def test_memory_that_others_take_has_sleepers_ended_first() -> None:
    world = machine()
    other = napping(world)
    world.devices["gpu"].foreign = 4 * GIB
    world.measure()
    world.tick(2.1)
    assert world.stopped() == [("a#1", "pressure")]
    assert world.instance(other).phase is Phase.READY


def test_a_request_to_give_way_ends_it_whole() -> None:
    world = machine()
    idle(world, "a")
    world.give_way(20 * GIB, 60)
    assert (world.slumbers(), world.stopped()) == ([], [("a#1", "pressure")])


def test_a_model_that_runs_in_ram_does_not_sleep() -> None:
    world = machine()
    ticket = world.ask("a", {"host": 40}, sleeps=16)
    world.ready("a#1")
    world.release(ticket)
    world.seen("a#1")
    world.ask("b", {"host": 40})
    assert (world.slumbers(), world.stopped()) == ([], [("a#1", "evicted")])


def test_ram_that_it_was_promised_awake_is_promised_beside_its_weights() -> None:
    world = machine()
    option = world.placed({"gpu": 20 * GIB, "host": 3 * GIB})
    ticket = world.ask("a", options=(option,), sleeps=16)
    world.ready("a#1")
    world.release(ticket)
    world.seen("a#1")
    world.ask("b", on_card(20))
    assert world.account("host").charged == 19 * GIB
    world.sleeps("a#1")
    world.ready("b#1")
    world.release(world.granted()[-1])
    world.tick(1)
    world.seen("b#1")
    world.ask("a", options=(option,), sleeps=16)
    world.gone("b#1")
    world.woke("a#1")
    world.devices["host"].processes["a#1"] = GIB
    world.measure()
    assert world.account("host").charged == 3 * GIB, "what it was promised to run stays promised"


def test_a_pinned_sleeper_stays_until_it_is_unpinned() -> None:
    world = machine()
    napping(world, idle_timeout=30)
    world.happen(PinChanged(at=world.now, instance=InstanceId("a#1"), pin=True))
    world.tick(60)
    world.ask("ram", {"host": 60})
    assert world.stopped() == []
    world.happen(PinChanged(at=world.now, instance=InstanceId("a#1"), pin=False))
    assert world.stopped() == [("a#1", "evicted")]


def test_a_sleeper_is_the_first_that_ends_for_ram() -> None:
    world = machine()
    idle(world, "small", sleeps=0)  # it would be the cheapest
    world.stop("small#1")
    world.gone("small#1")
    napping(world)
    world.state.expectations.launches |= {"a": 90.0, "cheap": 0.1}
    held = world.ask("cheap", {"host": 30})
    world.ready("cheap#1")
    world.release(held)
    world.seen("cheap#1")
    before = len(world.stopped())
    world.ask("c", {"host": 30})
    assert world.stopped()[before:] == [("a#1", "evicted")]


def test_ram_that_a_woken_one_keeps_stays_charged_and_is_used_again() -> None:
    world = machine()
    other = napping(world)
    world.gone(other)
    ticket = world.ask("a", on_card(20), sleeps=16)
    world.woke("a#1")
    world.measure()
    assert world.account("host").charged == 16 * GIB
    world.release(ticket)
    world.tick(1)
    world.seen("a#1")
    world.ask("c", on_card(20))
    assert world.slumbers()[-1] == ("a#1", "sleep")
    assert world.account("host").charged == 16 * GIB


def test_ram_that_a_woken_one_gives_back_is_credited_by_a_reading() -> None:
    world = machine()
    other = napping(world)
    world.gone(other)
    world.ask("a", on_card(20), sleeps=16)
    world.woke("a#1")
    world.devices["host"].processes["a#1"] = GIB
    world.measure()
    assert world.account("host").charged == GIB


def test_ram_that_its_processes_have_already_is_charged_with_its_weights() -> None:
    world = machine()
    ticket = world.ask("a", on_card(20), sleeps=16)
    world.devices["host"].processes["a#1"] = 2 * GIB
    world.ready("a#1")
    assert world.headroom("host") == 62, "until it sleeps it counts as foreign"
    world.release(ticket)
    world.seen("a#1")
    world.ask("b", on_card(20))
    assert world.headroom("host") == 46
    world.slept("a#1", ram=18)
    world.measure()
    assert world.headroom("host") == 46


@pytest.mark.parametrize("phase", [Phase.DOZING, Phase.ASLEEP, Phase.WAKING])
def test_it_can_be_stopped_at_any_time(phase: Phase) -> None:
    world = machine()
    idle(world, "a")
    world.ask("b", on_card(20))
    if phase is not Phase.DOZING:
        world.sleeps("a#1")
    if phase is Phase.WAKING:
        world.gone("b#1")
        waiting = world.ask("a", on_card(20), sleeps=16)
    assert world.instance("a#1").phase is phase
    world.stop("a#1")
    assert world.stopped()[-1] == ("a#1", "admin")
    if phase is Phase.WAKING:
        assert world.refused()[waiting] == "stopped"
    world.gone("a#1")
    assert world.account("host").charged == 0


def test_a_drain_ends_those_that_sleep() -> None:
    world = machine()
    napping(world)
    world.happen(DrainRequested(at=world.now))
    assert ("a#1", "drain") in world.stopped()


def test_what_is_to_be_kept_is_woken_rather_than_started() -> None:
    world = machine()
    other = napping(world)
    world.gone(other)
    ask = world.instance("a#1").ask
    world.happen(ResidentsChanged(at=world.now, residents=(Resident(ask=ask, keep=1),)))
    world.tick(1)
    assert world.slumbers()[-1] == ("a#1", "wake")
    assert "a#2" not in world.started()


def test_two_make_way_and_the_one_that_would_leave_the_most_is_ended() -> None:
    world = machine()
    for name in ("a", "b"):
        idle(world, name, 11)
    world.state.residues |= {"a": GIB // 2, "b": 3 * GIB}
    for name in ("a", "b"):
        world.seen(f"{name}#1")
    world.ask("c", on_card(22))
    assert (world.slumbers(), world.stopped()) == ([("a#1", "sleep")], [("b#1", "evicted")])


def test_a_swap_puts_to_sleep_whose_turn_is_over() -> None:
    world = machine(quantum_loads=0.0)
    first = world.ask("a", on_card(20), sleeps=16)
    world.ready("a#1")
    world.seen("a#1", busy=True)
    waiting = world.ask("b", on_card(20))
    world.tick(1)
    world.release(first)
    world.seen("a#1")
    assert world.slumbers() == [("a#1", "sleep")]
    world.sleeps("a#1")
    world.ready("b#1")
    assert world.granted()[-1] == waiting


def test_turns_are_as_long_as_wakes_are_once_these_are_known() -> None:
    world = machine()
    other = napping(world)
    world.state.expectations.launches |= {"a": 90.0, "other": 90.0}
    world.state.expectations.wakes["a"] = 2.0
    world.gone(other)
    world.ask("a", on_card(20), sleeps=16)
    world.woke("a#1")
    world.seen("a#1", busy=True)
    world.ask("other", on_card(20))
    swap = world.instance("a#1").swap
    assert swap is not None
    assert swap.price == pytest.approx(92, abs=1)


def test_it_is_asleep_still_when_lmxd_is_started_again() -> None:
    world = machine()
    napping(world)
    found = world.instance("a#1")
    row = Instance(
        id=found.id, ask=found.ask, option=found.option, phase=Phase.ASLEEP, started_at=0.0, active_at=world.now,
    )  # fmt: skip
    again = World(world.devices)
    again.happen(LedgerRestored(at=again.now, instances=(row,), leases=(), yields=(), counts={"a": 1}, grace=30))
    assert again.account().reservations[found.id].charge == 20 * GIB, "no reading has shown less"
    again.measure()
    assert again.account().reservations[found.id].charge == GIB // 2
    again.devices["gpu"].processes.pop("other#1")
    again.measure()
    waiting = again.ask("a", on_card(20), sleeps=16)
    assert again.slumbers() == [("a#1", "wake")]
    again.woke("a#1")
    assert again.granted() == [waiting]


@pytest.mark.parametrize("wakes", [True, False])
def test_how_long_an_end_takes_is_not_learned_from_the_time_since_it_fell_asleep(*, wakes: bool) -> None:
    world = machine()
    other = napping(world, idle_timeout=10_000)
    world.gone(other)
    world.tick(900)
    if wakes:
        world.ask("a", on_card(20), sleeps=16)
        world.woke("a#1")
    world.exited("a#1")
    world.measure()
    assert "a#1" not in world.state.instances
    assert world.state.expectations.goings.get("a", 0.0) < 60


def test_a_late_report_changes_nothing() -> None:
    world = machine()
    other = napping(world)
    world.slept("a#1")
    world.sleep_failed("a#1")
    world.sleep_failed(other)
    assert world.instance("a#1").phase is Phase.ASLEEP
    assert all(x.cause is not Cause.SLEEPLESS for x in world.all(StopInstance))
