"""How long the core takes to decide: bench/admission.py

For a machine with N instances and as many requests waiting, one more request is made and
cancelled again. Prints microseconds per event.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from core.world import GIB, Gpu, World

from lmxd.core import events as e
from lmxd.core.words import Ask, Hold, Owner

ROUNDS = 2000


def crowded(instances: int) -> World:
    """Every instance leased, and as many requests waiting for the last one to end."""
    world = World({"gpu": Gpu(capacity=instances * GIB)}, queue_depth=10 * instances)
    for number in range(instances):
        world.ask(f"m{number}", 1)
        world.ready(f"m{number}#1")
    for number in range(instances):
        world.ask(f"w{number}", 1)
    return world


def request(world: World, number: int, gib: int) -> e.LeaseRequested:
    ask = Ask(
        profile="x", variant="v", context=4096, slots=1, spread=1, options=({"gpu": gib * GIB},), idle_timeout=300
    )
    owner = Owner(uid=1000, pid=1, connection=1)
    return e.LeaseRequested(
        at=world.now, ticket=f"b{number}", lease=f"b{number}", owner=owner, ask=ask, hold=Hold.CONNECTION
    )


def measure(world: World, gib: int) -> list[float]:
    times = []
    for number in range(ROUNDS):
        event = request(world, number, gib)
        begun = time.perf_counter_ns()
        world.admission.handle(event)
        times.append((time.perf_counter_ns() - begun) / 1000)
        world.admission.handle(e.TicketCancelled(at=world.now, ticket=f"b{number}"))
    return sorted(times)


def main() -> None:
    print(f"{'instances':>9} {'waiting':>7} {'decision':>10} {'p50 us':>8} {'p99 us':>8}")
    for instances in (1, 4, 16, 64):
        world = crowded(instances)
        for decision, gib in (("queued", 1), ("refused", instances + 1)):
            times = measure(world, gib)
            p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            print(f"{instances:9} {instances:7} {decision:>10} {p50:8.1f} {p99:8.1f}")


if __name__ == "__main__":
    main()
