"""How well a fleet chooses: bench/fleet_choosing.py [--shortest | --quick] [--load N ...] [--seed N ...] [--seconds N]

Each node is the very core that the daemon runs, with one card of 80 GiB, in virtual time. Gateways choose nodes by
lmxd/fleet/choosing, from heartbeats that come late or never, by a seed. Beside it, on the same trace, one big queue
with full knowledge: one core that has all cards.

  wait      seconds from a request to its lease, the load of its model included
  packed    of the bytes that are wanted while a request waits and that cards have: the part that is used; in brackets
            as long as requests come
  first     of the requests that were sent to a node which seemed to have room: those that it served

Before that, the CPU that it takes to choose one of so many nodes, each with a queue.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fleet.reported import beat, card
from fleet_world import Fleet, Network
from simulated_world import GIB, Job, World

from lmxd.core.books.state import State
from lmxd.fleet.choosing.prospects import Sought
from lmxd.fleet.choosing.ranking import ranking
from lmxd.fleet.choosing.table import NodeTable

CARD = 80 * GIB
SIZES = (8, 12, 20, 28, 40)
WORK = (10.0, 50.0)
SLOTS = 1
CHOICES = 100
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
    """Bytes in use against bytes that could be, as long as anybody waits: looked at once a second.

    ``coming``: the part that was used until requests come no more. Behind that large models are left, with room for
    nothing beside them.
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        self.capacity, self.seconds, self.used, self.possible, self.coming = capacity, seconds, 0, 0, 1.0

    def look(self, states: list[State], now: float) -> None:
        waiting = sum(t.ask.size for state in states for t in state.queue)
        if not waiting:
            return
        instances = [i for state in states for i in state.instances.values()]
        used = sum(i.option.size for i in instances if not i.vacant or not i.live)
        self.used += used
        self.possible += min(self.capacity, used + waiting)
        if now < self.seconds:
            self.coming = self.part

    @property
    def part(self) -> float:
        return self.used / self.possible if self.possible else 1.0


@dataclass(frozen=True)
class Found:
    """The seconds that requests waited, how bytes were used, and the seconds of CPU that all took."""

    waits: list[float]
    packing: Packing
    took: float
    said: str = ""

    @property
    def p99(self) -> float:
        return quantile(self.waits, 0.99)

    def show(self, name: str) -> None:
        figures = " ".join(f"{quantile(self.waits, part):7.2f}" for part in (0.5, 0.9, 0.99))
        most = max(self.waits, default=0.0)
        packed = f"{self.packing.part:8.1%} ({self.packing.coming:.1%})"
        print(f"  {name:10} {len(self.waits):7} {figures} {most:7.2f} {packed} {self.took:6.0f} s", flush=True)


def quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def one_queue(nodes: int, jobs: list[Job], seconds: float) -> Found:
    """One core that has all cards."""
    begun = time.process_time()
    world, packing = World({f"d{n}": CARD for n in range(nodes)}, jobs, check=False), Packing(nodes * CARD, seconds)
    for second in range(longest(seconds)):
        world.later(second + 0.5, lambda: packing.look([world.state], world.now))
        world.later(second + 0.6, world.tick)
    world.run(longest(seconds))
    waits = [wait for waits in world.result.waits.values() for wait in waits]
    return Found(waits, packing, time.process_time() - begun)


def many_queues(nodes: int, jobs: list[Job], seconds: float, gateways: int) -> Found:
    """A core for each card, and gateways that choose."""
    begun = time.process_time()
    fleet, packing = Fleet([CARD] * nodes, jobs, gateways, 1, Network()), Packing(nodes * CARD, seconds)
    states, until, tally = [node.state for node in fleet.nodes.values()], 0.5, fleet.tally
    while until < longest(seconds) and len(tally.waits) < len(jobs):
        fleet.clock.run(until)
        packing.look(states, until)
        until += 1.0
    said = (
        f"first try {tally.first / max(1, tally.asked):.1%} of {tally.asked}; {tally.moved} moved, {tally.twice} twice "
        f"granted; {fleet.beats / until / nodes:.2f} heartbeats a second and node\n  choosing took "
        f"{tally.choosing / 1e3 / max(1, len(tally.waits)):.0f} us a request, all its tries included; a heartbeat "
        f"{tally.hearing / 1e3 / max(1, fleet.beats * gateways):.0f} us"
    )
    return Found(tally.waits, packing, time.process_time() - begun, said)


def choose_one(nodes: int) -> None:
    """Print the milliseconds of CPU that a choice takes, by who has an instance of the model."""
    for case, ready, others in (
        ("3 have a vacant slot, and others none of its instances", 3, False),
        ("none has an instance of it", 0, False),
        ("all have one without a vacant slot", 0, True),
        ("3 of all that have one have a vacant slot", 3, True),
    ):
        table, rng = NodeTable(), random.Random(1)
        for n in range(nodes):
            vacant = {"m": int(n < ready)} if others or n < ready else {}
            table.hear_card(card(f"n{n}", {"m": 8}))
            table.hear(beat(f"n{n}", 1, 0.0, vacant=vacant, waiting=1, eta=1.0 + n), 0.0)
        begun = time.process_time()
        for _ in range(CHOICES):
            ranking(table, Sought(model="m"), 0.0, rng.randrange)
        print(f"one of {nodes} nodes in {1e3 * (time.process_time() - begun) / CHOICES:.2f} ms: {case}")


def longest(seconds: float) -> int:
    """The seconds in which all have long been served who came within ``seconds``."""
    return int(seconds * 2 + 60)


def compare(nodes: int, seconds: float, load: float, seed: int, gateways: int) -> Iterator[str]:
    """Print both, and say what is worse than its bound."""
    jobs = trace(nodes, seconds, load, seed)
    print(
        f"\n{nodes} nodes, {gateways} gateways, {len(jobs)} requests by seed {seed}, {load:.0%} load, {seconds:.0f} s"
    )
    print("               served     p50     p90     p99    most   packed            CPU")
    with ProcessPoolExecutor(2) as pool:
        alone = pool.submit(one_queue, nodes, jobs, seconds)
        together = pool.submit(many_queues, nodes, jobs, seconds, gateways)
        one, fleet = alone.result(), together.result()
    one.show("one queue")
    fleet.show("fleet")
    ratio = fleet.p99 / one.p99
    print(f"  p99 {ratio:.2f} times; {fleet.said}")
    by = f"{load:.0%} load, seed {seed}:"
    if len(fleet.waits) < len(jobs):
        yield f"{by} {len(jobs) - len(fleet.waits)} requests were never served"
    if ratio > WORSE:
        yield f"{by} the p99 wait is {ratio:.2f} times that of one big queue, {WORSE} is the bound"
    if fleet.packing.part < PACKED:
        yield f"{by} {fleet.packing.part:.1%} are packed, {PACKED:.0%} is the bound"


def main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="20 nodes for a minute")
    parser.add_argument("--quick", action="store_true", help="100 nodes for two minutes")
    parser.add_argument("--load", type=int, nargs="*", default=[70, 95, 120], help="per cent of what all cards can do")
    parser.add_argument("--seed", type=int, nargs="*", default=[7], help="of the trace; one run by each")
    parser.add_argument("--seconds", type=float, help="for so long requests come; 120 by default")
    given = parser.parse_args()
    nodes, seconds = (20, 60.0) if given.shortest else (100, 120.0) if given.quick else (1000, 120.0)
    choose_one(nodes)
    for load in given.load:
        for seed in given.seed:
            yield from compare(nodes, given.seconds or seconds, load / 100, seed, 2)


if __name__ == "__main__":
    missed = list(main())
    for sentence in missed:
        print(f"MISSED: {sentence}")
    sys.exit(bool(missed))
