"""Admission in virtual time: bench/simulate.py [--quick | --shortest] [--growth]

The very core that the daemon runs is driven by traces, with time that passes as fast as the CPU allows; beside it,
on the same traces, simple policies of others as their sources describe them:

  fifo      strictly in order, bytes reserved, the longest idle evicted
  count     llama.cpp's router: at most four models loaded, the least recently used evicted; bytes are not looked at
  declared  large-model-proxy: declared bytes; a service with connections is not stopped, all who wait for a running one
            are let in, and whoever wakes up first takes what came free

A launch takes 1 s and 0.25 s a GiB, an exit 0.1 s; clients hold their lease for the time that the trace says.
"unused": seconds for which a ready model that nobody had stood idle while a request for it waited. (lmxd asks an engine
whether it works before it stops it: 2 ms here, for which what is about to be stopped is unused.)
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from simple_policies import POLICIES, answered, waited
from simulated_traces import alone, bursty, crowd, fleet, mixed, rivals
from simulated_world import GIB, LOOK, Job, Result, World

COLD_WAITS = 40.0
HOT_KEEPS = 0.7
"""Of two rivals with loads of 5 s: what the cold one waits at most, and what the hot one keeps of its answers."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long the traces are. ``spikes``: the jobs beside which foreign use comes and goes. ``fleets``: (devices,
    jobs) of the growth table."""

    hours: float
    seconds: float
    jobs: int
    spikes: int
    fleets: tuple[tuple[int, int], ...]


FULL = Scale(24, 3600, 400, 150, ((1, 60), (10, 400), (100, 3000), (1000, 12000)))
QUICK = Scale(4, 1200, 400, 150, ((1, 60), (10, 400), (100, 3000)))
SHORTEST = Scale(0.25, 300, 400, 40, ((1, 60),))


def compare(title: str, devices: dict[str, int], jobs: list[Job], client: str) -> Result:
    """Print what each policy makes of a trace; the result is lmxd's."""
    print(f"\n{title}")
    print("  policy     wait p50    p99  evictions   OOM    TiB s     over  unused")
    mine = World(devices, jobs).run()
    results: list[tuple[str, Any]] = [("lmxd", mine)]
    results += [(name, kind(devices, jobs, 60.0).run()) for name, kind in POLICIES.items()]
    for name, r in results:
        p50, p99 = (waited(r.waits, client, part) for part in (0.5, 0.99))
        print(
            f"  {name:9} {p50:9.1f} {p99:6.1f} {r.evictions:10} {r.ooms:5} {r.byte_seconds / 2**40:8.2f}"
            f" {r.ended_at:7.0f}s {r.idle_while_wanted:6.0f}s"
        )
    return mine


def two_rivals(seconds: float) -> Iterator[str]:
    """Who gets how many answers of two models of which one fits at a time."""
    devices, trace, hot = {"gpu": 24 * GIB}, rivals(seconds, 2), alone(seconds)
    print(f"\ntwo rivals, loads of 5 s, {seconds:.0f} s: two who never stop asking for A, one who now and then wants B")
    print("  policy       hot  of alone  worst    cold  worst  evictions   OOM  unused")
    played: list[tuple[str, Any, Any]] = [
        ("lmxd", World(devices, trace).run(seconds), World(devices, hot).run(seconds))
    ]
    for name, kind in POLICIES.items():
        played.append((name, kind(devices, trace, 60.0).run(seconds), kind(devices, hot, 60.0).run(seconds)))
    for name, r, before in played:
        hots, colds = answered(r.answers, "hot"), answered(r.answers, "cold")
        kept, cold = hots / answered(before.answers, "hot"), waited(r.waits, "cold", 1)
        print(
            f"  {name:9} {hots:6} {kept:9.0%} {waited(r.waits, 'hot', 1):6.1f} {colds:7} {cold:6.1f}"
            f" {r.evictions:10} {r.ooms:5} {r.idle_while_wanted:6.0f}s"
        )
        if name == "lmxd":
            yield from _missed(kept, cold)
            yield from unused(r)


def _missed(kept: float, cold: float) -> Iterator[str]:
    if not cold <= COLD_WAITS:
        yield f"the cold one waited {cold:.1f} s, its bound is {COLD_WAITS:.0f} s"
    if kept < HOT_KEEPS:
        yield f"the hot one kept {kept:.0%} of its answers, {HOT_KEEPS:.0%} are its bound"


def unused(found: Result) -> Iterator[str]:
    """Whether a model stood idle while somebody waited for it, but for the look before it was stopped."""
    if found.idle_while_wanted > 1.01 * LOOK * (found.evictions + 1):
        yield f"models stood idle for {found.idle_while_wanted:.2f} s while somebody waited for them"


def two_crowds(seconds: float) -> Iterator[str]:
    """The same with a crowd on either side."""
    devices, trace = {"gpu": 24 * GIB}, crowd(seconds)
    print(f"\ntwo crowds, loads of 5 s, {seconds:.0f} s: eight clients on each of two rivals, four slots")
    print("  policy         A  worst       B  worst  evictions   OOM  unused")
    mine = World(devices, trace).run(seconds)
    results: list[tuple[str, Any]] = [("lmxd", mine)]
    results += [(name, kind(devices, trace, 60.0).run(seconds)) for name, kind in POLICIES.items()]
    for name, r in results:
        sides = "".join(f" {answered(r.answers, s):7} {waited(r.waits, s, 1):6.1f}" for s in "ab")
        print(f"  {name:9}{sides} {r.evictions:10} {r.ooms:5} {r.idle_while_wanted:6.0f}s")
    yield from unused(mine)


def growth(fleets: Sequence[tuple[int, int]]) -> None:
    """Print what one event takes the core, by kind, while more wait than the devices can serve."""
    print("\nfleets: CPU time of one event in the core (us), with more waiting than the devices can serve")
    columns = "".join(f" {kind + ' p50':>12} {'p99':>7}" for kind in ("request", "other", "tick"))
    print(f"{'devices':>7} {'waiting':>7} {'started':>7}{columns}")
    for devices, jobs in fleets:
        world = World({f"d{n}": 80 * GIB for n in range(devices)}, fleet(devices, jobs, 3), check=False)
        world.run(until=10.0)
        waiting, instances, found = len(world.state.queue), len(world.state.instances), world.result
        kinds = (found.requests, found.others, found.ticks)
        for times in kinds:
            times.clear()
        gc.collect()
        gc.freeze()  # the trace itself is not the core's, nor is it to be looked through for garbage
        for second in range(10, 45):
            world.later(second + 0.5, world.tick)
        world.run(until=45.0)
        figures = "".join(f" {quantile(times, 0.5):12.1f} {quantile(times, 0.99):7.1f}" for times in kinds)
        print(f"{devices:7} {waiting:7} {instances:7}{figures}")


def quantile(nanoseconds: list[int], part: float) -> float:
    """Microseconds."""
    ordered = sorted(nanoseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000 if ordered else float("nan")


def foreign_spikes(jobs: int) -> None:
    """Somebody else takes up to half of the device, again and again, for a while."""
    rng = random.Random(5)
    world = World({"gpu": 80 * GIB}, mixed(jobs, 4), idle=30.0, grace=20.0)

    def change() -> None:
        world.foreign["gpu"] = rng.choice([0, 0, 10, 25, 40]) * GIB
        if len(world.state.tickets) or world.state.leases:
            world.later(world.now + rng.uniform(20, 60), change)

    def look() -> None:
        world.measure()
        if len(world.state.tickets) or world.state.leases or world.now < jobs:
            world.later(world.now + 1.0, look)

    world.later(5.0, change)
    world.later(1.0, look)
    found = world.run()
    served = sum(map(len, found.waits.values()))
    print(f"\nforeign spikes up to half of the card: {served} served, {found.refused} refused,", end="")
    print(f" overdrawn {found.overdrawn:.0f} of {found.ended_at:.0f} s, {found.evictions} evictions")


def agents(hours: float) -> Iterator[str]:
    """What is saved while nobody asks."""
    found = compare(
        f"three bursty agents, {hours:g} h, one card of 24 GiB", {"gpu": 24 * GIB}, bursty(hours, 1), "agent"
    )
    always = 3 * 6 * GIB * found.ended_at
    print(f"  against three servers that are always on: {1 - found.byte_seconds / always:.1%} fewer byte-seconds")
    if found.byte_seconds > 0.4 * always:
        yield "fewer than 60 % of the byte-seconds of always-on were saved"


def all_sizes(jobs: int) -> Iterator[str]:
    """How full the card is while somebody waits."""
    found = compare(f"{jobs} of all sizes, one card of 80 GiB", {"gpu": 80 * GIB}, mixed(jobs, 1), "c")
    packing = found.packed / found.possible
    print(f"  packed {packing:.1%} of the best choice at every moment; {found.backfilled} backfilled")
    if packing < 0.9 and jobs >= QUICK.jobs:
        yield "less than 90 % of the optimum was packed"


def main() -> Iterator[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter traces, and no fleet of 1,000 devices")
    parser.add_argument("--shortest", action="store_true", help="a quarter of a minute in all")
    parser.add_argument("--growth", action="store_true", help="only how long an event takes fleets of more devices")
    given = parser.parse_args()
    scale = SHORTEST if given.shortest else QUICK if given.quick else FULL
    if not given.growth:
        yield from agents(scale.hours)
        yield from two_rivals(scale.seconds)
        yield from two_crowds(scale.seconds)
        yield from all_sizes(scale.jobs)
        foreign_spikes(scale.spikes)
    growth(scale.fleets)


if __name__ == "__main__":
    missed = list(main())
    for sentence in missed:
        print(f"! {sentence}")
    sys.exit(bool(missed))
