"""Whether a model would find room: now, after how many instances have ended, or never."""

from __future__ import annotations

from core.world import GIB, Gpu, World, unified

from lmxd.core.policy.fit import FitWhen, fit
from lmxd.core.words import Ask, DeviceId, Option


def wish(*options: dict[str, int]) -> Ask:
    found = tuple(Option(demand={DeviceId(d): n * GIB for d, n in option.items()}) for option in options)
    return Ask(profile="new", variant="", context=1, slots=1, spread=1, options=found)


def busy(*sizes: int) -> World:
    """A card of 24 GiB whose instances have been asked for and granted."""
    world = World({"gpu": Gpu(capacity=24 * GIB)})
    for number, size in enumerate(sizes):
        world.ask(f"m{number}", {"gpu": size})
        world.ready(f"m{number}#1")
    return world


def test_it_fits_now_after_the_fewest_have_ended_or_never() -> None:
    world = busy(3, 4, 12)
    assert fit(world.state, wish({"gpu": 5})) == (FitWhen.NOW, ())
    assert fit(world.state, wish({"gpu": 16})) == (FitWhen.AFTER, ("m2#1",))
    assert fit(world.state, wish({"gpu": 20})) == (FitWhen.AFTER, ("m2#1", "m0#1"))
    assert fit(world.state, wish({"gpu": 25})).when is FitWhen.NEVER


def test_bytes_of_strangers_are_not_to_be_given() -> None:
    world = busy(3)
    world.devices["gpu"].foreign = 12 * GIB
    world.measure()
    assert fit(world.state, wish({"gpu": 13})).when is FitWhen.BLOCKED


def test_of_several_devices_the_one_counts_for_which_the_fewest_end() -> None:
    world = World({"a": Gpu(capacity=24 * GIB), "b": Gpu(capacity=24 * GIB)})
    for name, device, size in (("x", "a", 8), ("y", "a", 8), ("z", "b", 20)):
        world.ask(name, {device: size})
        world.ready(f"{name}#1")
    assert fit(world.state, wish({"a": 24}, {"b": 24})) == (FitWhen.AFTER, ("z#1",))
    assert fit(world.state, wish({"a": 16, "b": 4})) == (FitWhen.AFTER, ("x#1",))
    assert fit(world.state, wish({"a": 30}, {"b": 24})).when is FitWhen.AFTER


def test_a_device_that_does_not_answer_gives_nothing() -> None:
    world = busy(3)
    world.devices["gpu"].unavailable = "it is lost"
    world.measure()
    assert fit(world.state, wish({"gpu": 5})).when is FitWhen.BLOCKED


def test_a_pool_counts_for_all_that_draw_from_it() -> None:
    world = World(unified(32))
    world.ask("in ram", {"host": 20})
    world.ready("in ram#1")
    assert fit(world.state, wish({"gpu": 16, "memory": 16})) == (FitWhen.AFTER, ("in ram#1",))
