"""How long the core takes to decide: bench/admission.py [--shortest]

For a machine with N instances and as many requests waiting, one more request is made and
cancelled again. Prints microseconds per event.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from core.world import GIB, Gpu, World

from lmxd.core.events import LeaseRequested, TicketCancelled
from lmxd.core.words import Ask, ConnectionId, DeviceId, Hold, LeaseId, Option, Owner, TicketId


def crowded(instances: int) -> World:
    """Every instance leased, and as many requests waiting for the last one to end."""
    world = World({"gpu": Gpu(capacity=instances * GIB)}, queue_depth=10 * instances)
    for number in range(instances):
        world.ask(f"m{number}", 1)
        world.ready(f"m{number}#1")
    for number in range(instances):
        world.ask(f"w{number}", 1)
    return world


def request(world: World, number: int, gib: int) -> LeaseRequested:
    option = Option(demand={DeviceId("gpu"): gib * GIB})
    ask = Ask(profile="x", variant="v", context=4096, slots=1, spread=1, options=(option,))
    owner = Owner(uid=1000, pid=1, connection=ConnectionId(1))
    return LeaseRequested(
        at=world.now,
        ticket=TicketId(f"b{number}"),
        lease=LeaseId(f"b{number}"),
        owner=owner,
        ask=ask,
        hold=Hold.CONNECTION,
    )


def measure(world: World, gib: int, rounds: int) -> list[float]:
    times = []
    for number in range(rounds):
        event = request(world, number, gib)
        begun = time.perf_counter_ns()
        world.admission.handle(event)
        times.append((time.perf_counter_ns() - begun) / 1000)
        world.admission.handle(TicketCancelled(at=world.now, ticket=event.ticket))
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shortest", action="store_true", help="a second in all")
    shortest = parser.parse_args().shortest
    rounds = 100 if shortest else 2000
    print(f"{'instances':>9} {'waiting':>7} {'decision':>10} {'p50 us':>8} {'p99 us':>8}")
    for instances in (1, 4) if shortest else (1, 4, 16, 64):
        world = crowded(instances)
        for decision, gib in (("queued", 1), ("refused", instances + 1)):
            times = measure(world, gib, rounds)
            p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            print(f"{instances:9} {instances:7} {decision:>10} {p50:8.1f} {p99:8.1f}")


if __name__ == "__main__":
    main()
