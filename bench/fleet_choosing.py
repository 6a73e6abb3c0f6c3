"""How well a fleet chooses: bench/fleet_choosing.py [--shortest | --quick] [--load PERCENT]

Each node is the very core that the daemon runs, with one card of 80 GiB, in virtual time. Gateways choose nodes by
lmxd/fleet/choosing, from heartbeats that come late or never, by a seed. Beside it, on the same trace, one big queue
with full knowledge: one core that has all cards.

  wait      seconds from a request to its lease, the load of its model included
  packed    of the bytes that are wanted while a request waits and that cards have: the part that is used
  first     of the requests that were sent to a node which seemed to have room: those that it served
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fleet_world import Fleet, Network
from simulated_world import GIB, Job, World

from lmxd.core.books.state import State

CARD = 80 * GIB
SIZES = (8, 12, 20, 28, 40)
WORK = (10.0, 50.0)
SLOTS = 2
WORSE, PACKED = 1.5, 0.95
"""Bounds: the p99 wait against that of one big queue, and the part of the bytes that is used."""


def trace(nodes: int, seconds: float, load: float, seed: int) -> list[Job]:
    """Requests at random times for models of which few are asked for most. ``load``: 1.0 is what all cards can do."""
    rng = random.Random(seed)
    models = [(f"m{n}", rng.choice(SIZES) * GIB) for n in range(max(4, nodes // 5))]
    weights = [1 / (rank + 3) for rank in range(len(models))]
    size = sum(w * s for w, (_, s) in zip(weights, models, strict=True)) / sum(weights)
    rate = load * nodes * CARD / (size / SLOTS) / (sum(WORK) / 2)
    jobs, at = [], 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        ((model, need),) = rng.choices(models, weights)
        user = rng.randrange(50)
        jobs.append(
            Job(client=f"c{user}", model=model, size=need, at=at, work=rng.uniform(*WORK), uid=user, slots=SLOTS)
        )
    return jobs


class Packing:
    """Bytes in use against bytes that could be, as long as anybody waits: looked at once a second."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used, self.possible = capacity, 0, 0

    def look(self, states: list[State]) -> None:
        waiting = sum(t.ask.size for state in states for t in state.queue)
        if not waiting:
            return
        instances = [i for state in states for i in state.instances.values()]
        used = sum(i.option.size for i in instances if not i.vacant or not i.live)
        self.used += used
        self.possible += min(self.capacity, used + waiting)

    @property
    def part(self) -> float:
        return self.used / self.possible if self.possible else 1.0


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def one_queue(nodes: int, jobs: list[Job], until: float) -> tuple[list[float], float]:
    """The waits of one core that has all cards, and how it packs."""
    world, packing = World({f"d{n}": CARD for n in range(nodes)}, jobs, check=False), Packing(nodes * CARD)
    for second in range(int(until)):
        world.later(second + 0.5, lambda: packing.look([world.state]))
        world.later(second + 0.6, world.tick)
    world.run(until)
    return [wait for waits in world.result.waits.values() for wait in waits], packing.part


def many_queues(nodes: int, jobs: list[Job], until: float, gateways: int) -> tuple[Fleet, float]:
    fleet, packing = Fleet([CARD] * nodes, jobs, gateways, 1, Network()), Packing(nodes * CARD)
    states = [node.state for node in fleet.nodes.values()]
    for second in range(int(until)):
        fleet.clock.later(second + 0.5, lambda: packing.look(states))
    fleet.clock.run(until)
    return fleet, packing.part


def line(name: str, waits: list[float], packed: float, took: float) -> None:
    figures = " ".join(f"{quantile(waits, part):7.2f}" for part in (0.5, 0.9, 0.99))
    print(f"  {name:10} {len(waits):7} {figures} {max(waits, default=0.0):7.2f} {packed:8.1%} {took:6.0f} s")


def compare(nodes: int, seconds: float, load: float, gateways: int) -> Iterator[str]:
    """Print both, and say what is worse than its bound."""
    jobs, until = trace(nodes, seconds, load, 7), seconds * 2 + 300
    print(f"\n{nodes} nodes, {gateways} gateways, {load:.0%} load for {seconds:.0f} s, {len(jobs)} requests")
    print("               served     p50     p90     p99    most   packed    CPU")
    gc.collect()
    gc.freeze()
    begun = time.process_time()
    one, packed = one_queue(nodes, jobs, until)
    line("one queue", one, packed, time.process_time() - begun)
    begun = time.process_time()
    fleet, packs = many_queues(nodes, jobs, until, gateways)
    tally = fleet.tally
    line("fleet", tally.waits, packs, time.process_time() - begun)
    ratio = quantile(tally.waits, 0.99) / quantile(one, 0.99)
    first = tally.first / tally.asked if tally.asked else 1.0
    print(f"  p99 {ratio:.2f} times; first try {first:.1%}; {tally.moved} moved, {tally.twice} granted twice and given")
    print(f"  back; {fleet.beats / until / nodes:.2f} heartbeats a second and node")
    if len(tally.waits) < len(jobs):
        yield f"{len(jobs) - len(tally.waits)} requests were never served"
    if ratio > WORSE:
        yield f"the p99 wait is {ratio:.2f} times that of one big queue, {WORSE} is the bound"
    if packs < PACKED * packed:
        yield f"{packs:.1%} are packed, one big queue packs {packed:.1%}"


def main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="20 nodes for a minute")
    parser.add_argument("--quick", action="store_true", help="100 nodes for two minutes")
    parser.add_argument("--load", type=int, nargs="*", default=[70, 95, 120], help="per cent of what all cards can do")
    given = parser.parse_args()
    nodes, seconds = (20, 60.0) if given.shortest else (100, 120.0) if given.quick else (1000, 120.0)
    for load in given.load:
        yield from compare(nodes, seconds, load / 100, 2)


if __name__ == "__main__":
    missed = list(main())
    for sentence in missed:
        print(f"MISSED: {sentence}")
    sys.exit(bool(missed))
