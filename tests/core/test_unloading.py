"""Instances end when the client of their last lease said so: never in use, pinned, or sooner than they are idle."""

from __future__ import annotations

from core.world import World

from lmxd.core.orders import KeepAliveChanged
from lmxd.core.words import InstanceId, TicketId

A = InstanceId("a#1")


def keep_alive(world: World, seconds: float | None) -> None:
    world.happen(KeepAliveChanged(at=world.now, instance=A, seconds=seconds))


def used(**more: object) -> tuple[World, TicketId]:
    """A world in which an instance is leased and ready."""
    world = World()
    ticket = world.ask("a", 10, idle_timeout=300, **more)  # type: ignore[arg-type]
    world.ready("a#1")
    return world, ticket


def test_an_idle_one_ends_at_once_when_its_engine_says_so() -> None:
    world, ticket = used()
    world.release(ticket)
    keep_alive(world, 0.0)
    assert world.stopped() == [], "its engine has not been asked"
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]


def test_one_in_use_ends_after_its_last_lease() -> None:
    world, ticket = used(spread=2)
    other = world.ask("a", 10, idle_timeout=300, spread=2)
    keep_alive(world, 0.0)
    world.seen("a#1")
    for each in (ticket, other):
        assert world.stopped() == []
        world.release(each)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]


def test_a_busy_one_is_not_cut_nor_asked_without_pause() -> None:
    world, ticket = used()
    world.release(ticket)
    keep_alive(world, 0.0)
    world.seen("a#1", busy=True)
    assert world.stopped() == []
    world.pass_time(20)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]


def test_it_stays_for_as_long_as_was_said() -> None:
    world, ticket = used()
    world.release(ticket)
    keep_alive(world, 30.0)
    world.pass_time(29)
    world.seen("a#1")
    assert world.stopped() == []
    world.pass_time(2)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]


def test_it_stays_no_longer_than_its_profile_says() -> None:
    world, ticket = used()
    world.release(ticket)
    keep_alive(world, 1e9)
    world.pass_time(301)
    world.seen("a#1")
    assert world.stopped() == [("a#1", "idle")]


def test_a_pinned_one_stays() -> None:
    world, ticket = used(pin=True)
    world.release(ticket)
    keep_alive(world, 0.0)
    world.seen("a#1")
    assert world.stopped() == []


def test_a_later_lease_sets_it_aside() -> None:
    world, ticket = used()
    world.release(ticket)
    keep_alive(world, 30.0)
    world.release(world.ask("a", 10, idle_timeout=300))
    world.pass_time(31)
    world.seen("a#1")
    assert world.stopped() == []
