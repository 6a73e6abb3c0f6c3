"""Pools: devices that share one memory are charged once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core.world import GIB, Gpu, Pool, World, placed, unified

from lmxd.core.decisions import RefuseLease, StartInstance
from lmxd.core.events import AskChanged
from lmxd.core.rules import Quota


def charges(world: World) -> dict[str, float]:
    return {a.device: a.charged / GIB for a in world.state.ledger.accounts.values()}


def test_what_the_gpu_has_is_not_promised_in_ram() -> None:
    world = World(unified(32))
    world.ask("on the gpu", {"gpu": 20})
    assert charges(world) == {"gpu": 20, "host": 0, "memory": 20}
    world.ask("in ram", {"host": 16}, wait=0)
    (refusal,) = [x.refusal for x in world.all(RefuseLease)]
    (shortfall,) = refusal.shortfalls
    assert (shortfall.device, shortfall.have, set(shortfall.views)) == ("memory", 11 * GIB, {"gpu", "host"})
    assert [(h.name, h.bytes) for h in shortfall.holders] == [("on the gpu#1", 20 * GIB)]
    world.ask("in ram", {"host": 11}, wait=0)
    assert world.started() == ["on the gpu#1", "in ram#1"]
    assert world.headroom("memory") == 0


def test_each_view_keeps_its_own_bound() -> None:
    devices = unified(64)
    devices["gpu"].limit = 16 * GIB
    world = World(devices)
    world.ask("large", {"gpu": 20}, wait=0)
    assert list(world.refused().values()) == ["never_fits"]
    world.ask("small", {"gpu": 12})
    world.ask("beside", {"gpu": 5}, wait=0)
    assert world.last(RefuseLease).refusal.shortfalls[0].device == "gpu"


@pytest.mark.parametrize("idle_on", ["gpu", "host"])
@pytest.mark.parametrize("wanted_on", ["gpu", "host"])
def test_an_idle_instance_of_any_view_makes_room(idle_on: str, wanted_on: str) -> None:
    world = World(unified(32))
    held = world.ask("idle", {idle_on: 20})
    world.ready("idle#1")
    world.release(held)
    world.seen("idle#1")
    wanted = world.ask("wanted", {wanted_on: 20})
    assert world.stopped() == [("idle#1", "evicted")]
    world.gone("idle#1")
    world.ready("wanted#1")
    assert wanted in world.granted()


def test_of_instances_on_both_views_only_the_cheaper_goes() -> None:
    world = World(unified(32))
    for model, device in (("a", "gpu"), ("b", "host")):
        held = world.ask(model, {device: 14})
        world.ready(f"{model}#1")
        world.release(held)
        world.tick(20)
    world.seen("a#1")
    world.seen("b#1")
    world.ask("c", {"gpu": 14})
    assert world.stopped() == [("a#1", "evicted")], "it was used longer ago, and its bytes suffice"


def test_who_waits_for_the_other_view_has_a_date_and_a_turn() -> None:
    world = World(unified(32), quantum_loads=1.0)
    world.ask("in ram", {"host": 20})
    world.ready("in ram#1")
    world.tick(1)
    wanted = world.ask("on the gpu", {"gpu": 20})
    told = [d for d in world.log if getattr(d, "ticket", None) == wanted][-1]
    assert getattr(told, "waits_for", None) == ("in ram#1",)
    assert world.instance("in ram#1").swap is not None, "its turn ends"
    for _ in range(60):
        world.tick(1)
    world.release("t1")
    world.seen("in ram#1")
    world.tick(1)
    assert ("in ram#1", "evicted") in world.stopped()


def test_a_game_in_ram_ends_an_idle_instance_on_the_gpu() -> None:
    world = World(unified(32))
    held = world.ask("idle", {"gpu": 20})
    world.ready("idle#1")
    world.release(held)
    world.seen("idle#1")
    world.devices["memory"].foreign = 20 * GIB
    world.measure()
    world.tick(3)
    world.seen("idle#1")
    assert world.stopped() == [("idle#1", "pressure")]


def test_a_yield_of_the_memory_counts_for_both_views() -> None:
    world = World(unified(32))
    world.give_way(20 * GIB, 60, device="memory")
    for device in ("gpu", "host"):
        world.ask(device, {device: 12}, wait=0)
    assert list(world.refused().values()) == ["no_capacity", "no_capacity"]


def test_the_pool_is_charged_what_one_view_took_beyond_its_promise() -> None:
    world = World(unified(32))
    world.ask("m", options=(world.placed({"gpu": 8 * GIB, "host": 4 * GIB}),))
    assert charges(world) == {"gpu": 8, "host": 4, "memory": 12}
    world.devices["gpu"].processes["m#1"] = 10 * GIB
    world.devices["host"].processes["m#1"] = GIB
    world.measure()
    assert charges(world) == {"gpu": 10, "host": 4, "memory": 14}, "it may yet take the rest of its RAM"


def test_quotas_and_sizes_count_a_byte_once() -> None:
    world = World(unified(64), default=Quota(max_bytes=30 * GIB))
    world.ask("a", options=(world.placed({"gpu": 8 * GIB, "host": 4 * GIB}),))
    assert world.state.shares.by_uid[1000].bytes == 12 * GIB
    assert world.last(StartInstance).option.size == 12 * GIB
    world.ask("b", {"gpu": 18}, wait=0)
    assert world.started() == ["a#1", "b#1"]


def test_a_hold_counts_with_all_that_its_process_has_of_the_memory() -> None:
    world = World(unified(64))
    world.ask("hold", {"gpu": 8}, external=True, share=False)
    world.ready("hold#1")
    world.devices["gpu"].processes["hold#1"] = 10 * GIB
    world.measure()
    assert world.state.shares.by_uid[1000].bytes == 10 * GIB
    assert charges(world) == {"gpu": 10, "host": 0, "memory": 10}


def test_an_instance_of_an_earlier_lmxd_joins_the_pool_of_its_device() -> None:
    devices = unified(32)
    memory, gpu = devices.pop("memory"), devices["gpu"]
    gpu.pool = devices["host"].pool = None
    world = World(devices)
    world.ask("m", {"gpu": 20})
    world.ready("m#1")
    waiting = world.ask("n", {"gpu": 16})
    assert charges(world) == {"gpu": 20, "host": 0}
    gpu.pool = devices["host"].pool = "memory"
    world.devices["memory"] = memory
    world.measure()
    assert charges(world) == {"gpu": 20, "host": 0, "memory": 20}
    assert (world.instance("m#1").option.pools, world.instance("m#1").option.size) == (("memory",), 20 * GIB)
    world.stop("m#1")
    world.gone("m#1")
    assert waiting in world.waiting(), "it was asked for before the pool was known, so that it is asked anew"
    ask = world.state.tickets[waiting].ask
    renewed = replace(ask, options=(world.placed({"gpu": 16 * GIB}),))
    world.happen(AskChanged(at=world.now, ticket=waiting, ask=renewed))
    assert world.started()[-1] == "n#1"
    assert charges(world)["memory"] == 16


def test_a_lost_gpu_keeps_its_bytes_of_the_memory() -> None:
    world = World(unified(32))
    world.ask("m", {"gpu": 20})
    world.ready("m#1")
    world.devices["gpu"].unavailable = "lost"
    world.measure()
    assert charges(world)["memory"] == 20
    world.ask("in ram", {"host": 16}, wait=0)
    assert list(world.refused().values()) == ["no_capacity"]


def test_a_discrete_gpu_beside_it_is_no_part_of_it_and_comes_first() -> None:
    world = World({**unified(32), "card": Gpu(capacity=16 * GIB)})
    world.ask("a", {"gpu": 10, "card": 10})
    assert charges(world) == {"gpu": 0, "host": 0, "memory": 0, "card": 10}
    world.ask("b", {"gpu": 10, "card": 10})
    assert charges(world) == {"gpu": 10, "host": 0, "memory": 10, "card": 10}


def test_a_carve_out_is_memory_beside_ram() -> None:
    """A Strix Halo whose BIOS gives 96 GiB of 128 to the GPU: RAM has 32, and what RAM has is not in the carve-out."""
    devices = unified(32)
    devices["gpu"].capacity, devices["host"].margin = 112 * GIB, 2 * GIB
    devices["memory"].capacity, devices["memory"].margin = 128 * GIB, 6 * GIB
    world = World(devices)
    world.ask("large", {"gpu": 90})
    world.ask("in ram", {"host": 31}, wait=0)
    assert list(world.refused().values()) == ["never_fits"]
    world.ask("in ram", {"host": 30}, wait=0)
    assert charges(world) == {"gpu": 90, "host": 30, "memory": 120}


def test_the_option_says_devices_and_pools_apart() -> None:
    option = placed({"gpu": 8, "host": 4, "memory": 12}, pools=("memory",))
    assert (dict(option.devices), option.size) == ({"gpu": 8, "host": 4}, 12)
    assert isinstance(unified(1)["memory"], Pool)


def test_what_ran_in_ram_before_a_pool_was_known_has_bytes_of_it() -> None:
    """A processor's GPU gets its driver late: RAM is no device of its own any more, and what loads there goes on."""
    devices = unified(32)
    ram, memory = devices["host"], devices["memory"]
    ram.pool = None
    world = World({"host": ram})
    world.ask("in ram", {"host": 20})
    del world.devices["host"]
    world.devices |= {"gpu": devices["gpu"], "memory": memory}
    world.measure()
    world.ask("m", {"gpu": 16}, wait=0)
    assert list(world.refused().values()) == ["no_capacity"]
    world.ask("n", {"gpu": 11})
    assert charges(world) == {"host": 20, "gpu": 11, "memory": 31}
    world.gone("in ram#1")
    world.measure()
    assert charges(world) == {"gpu": 11, "memory": 11}
