"""What is learned, and of whom."""

from __future__ import annotations

import pytest
from core.test_fairness import told
from core.world import GIB, Gpu, World, placed

from lmxd.core.decisions import ReportProgress, StartInstance
from lmxd.core.events import LoadBegun, LoadPostponed
from lmxd.core.policy.forecast import starting
from lmxd.core.words import InstanceId


def test_a_lease_of_a_profile_that_is_not_known_is_expected_to_last_as_long_as_others() -> None:
    world = World()
    world.ask("a", 16)
    world.ready("a#1")
    waiting = world.ask("b", 16, deadline=60)
    assert world.refused() == {}, "not as long as an idle lease may last"
    assert told(world, waiting).eta == pytest.approx(10 + 1 + 1 + 16 / 4, abs=1)


def test_one_load_says_how_fast_others_are() -> None:
    world = World()
    first = world.ask("a", 16)
    world.pass_time(3.0)
    world.ready("a#1")
    world.release(first)
    world.seen("a#1")
    world.ask("b", 16)
    world.gone("a#1")
    assert world.last(StartInstance)
    assert world.state.expectations.launch("b", 16 * 2**30) == pytest.approx(3.0, abs=0.01)


def test_a_slow_engine_is_expected_to_be_slow_and_teaches_nothing_of_others() -> None:
    world = World()
    first = world.ask("a", 16, begun=20.0)
    assert world.state.expectations.launch("a", 16 * 2**30, 20.0) == pytest.approx(24.0)
    second = world.ask("c", 16)
    assert told(world, second).eta == pytest.approx(24.0 + 10.0 + 1.0 + 5.0, abs=1)
    world.cancel(second)
    world.pass_time(40.0)
    world.ready("a#1")
    world.release(first)
    launch = world.state.expectations.launch
    assert launch("a", 16 * 2**30, 20.0) == pytest.approx(40.0, abs=0.01)
    assert launch("b", 16 * 2**30) == pytest.approx(5.0, abs=0.01), "by what is assumed of a fast one"


def test_a_hold_teaches_nothing_of_the_model_whose_name_it_has() -> None:
    world = World()
    hold = world.ask("m", 4, external=True, variant="hold")
    world.ready("m#1")
    world.pass_time(3600.0)
    world.release(hold)
    world.gone("m#1")
    means = world.state.expectations.means()
    assert not any("m" in mean for mean in means.values())


def test_who_keeps_an_instance_to_himself_does_not_keep_others_from_theirs() -> None:
    world = World()
    world.ask("a", 8, share=False)
    world.ready("a#1")
    world.ask("a", 8, max_instances=1)
    assert world.started() == ["a#1", "a#2"]


def test_who_asks_for_ever_higher_classes_has_one_queue() -> None:
    world = World(queue_depth=3)
    world.ask("x", 20, uid=1)
    world.ready("x#1")
    for priority in (-3, -2, -1, 0):
        world.ask("y", 20, uid=2, priority=priority)
    assert list(world.refused().values()) == ["queue_full"]
    world.ask("y", 20, uid=3)
    world.ask("y", 20, uid=2, priority=5)
    assert len(world.waiting()) == 5, "neither another's place nor that of a raised class is taken"


def test_a_part_of_no_bytes_is_forgotten_with_the_rest() -> None:
    world = World({"x": Gpu(capacity=24 * GIB), "y": Gpu(capacity=24 * GIB)})
    both = (placed({"x": 8 * GIB, "y": 0}, split=(1, 1)),)
    world.release(world.ask("m", options=both))
    world.seen("m#1")
    world.exited("m#1")
    world.measure()
    assert not world.state.instances


def test_who_waits_for_an_instance_in_line_to_load_is_told_no_time_until_it_loads() -> None:
    """The load has not begun, so that its usual time says nothing of when it ends."""
    world = World()
    ticket = world.ask("a", 4)
    world.pass_time(0.5)
    world.happen(LoadPostponed(at=world.now, instance=InstanceId("a#1")))
    told = world.last(ReportProgress)
    assert isinstance(told, ReportProgress)
    assert (told.ticket, told.position, told.eta) == (ticket, 0, None)
    world.pass_time(30.0)
    world.happen(LoadBegun(at=world.now, instance=InstanceId("a#1")))
    told = world.last(ReportProgress)
    assert isinstance(told, ReportProgress)
    load = world.state.expectations.launch("a", 4 * GIB)
    assert told.eta == pytest.approx(load)
    world.tick(0.5)
    assert starting(world.state, world.state.tickets[ticket]) == pytest.approx(load - 0.5)
    world.ready("a#1")
    world.happen(LoadBegun(at=world.now, instance=InstanceId("a#1")))
    assert world.last(ReportProgress) is told, "a late report"
