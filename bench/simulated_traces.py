"""Traces for bench/simulate.py."""

from __future__ import annotations

import random

from simulated_world import GIB, Job


def bursty(hours: float, seed: int) -> list[Job]:
    """Three agents with a model each: ten calls of 3 s, one after the other, then a quarter of an hour on average."""
    rng, jobs = random.Random(seed), []
    for number in range(3):
        at = 0.0
        while at < hours * 3600:
            for call in range(10):
                pause = 1.0 if call else rng.expovariate(1 / 900)
                name = f"agent{number}"
                jobs.append(Job(client=name, model=f"m{number}", size=6 * GIB, at=pause, work=3.0, chained=bool(at)))
                at += pause + 3.0
    return jobs


def alone(seconds: float) -> list[Job]:
    """Two clients who never stop asking for A, an answer takes a second."""
    count = int(seconds)
    return [
        Job(
            client=f"hot{n}",
            model="a",
            size=16 * GIB,
            at=0.01 * n if first else 0.05,
            work=1.0,
            uid=1,
            chained=not first,
        )
        for n in range(2)
        for first in [True] + [False] * count
    ]


def rivals(seconds: float, seed: int) -> list[Job]:
    """The same, and one who asks for B, 1 to 10 s after each answer; one of the models fits at a time."""
    rng = random.Random(seed)
    cold = [
        Job(client="cold", model="b", size=16 * GIB, at=rng.uniform(1, 10), work=1.0, uid=2, chained=bool(n))
        for n in range(int(seconds / 5))
    ]
    return alone(seconds) + cold


def crowd(seconds: float) -> list[Job]:
    """Eight clients who never stop asking for A, and eight for B, four slots each; one of them fits at a time."""
    return [
        Job(
            client=f"{model}{n}",
            model=model,
            size=16 * GIB,
            at=0.01 * n if first else 0.05,
            work=1.0,
            uid=1,
            chained=not first,
            slots=4,
        )
        for model in "ab"
        for n in range(8)
        for first in [True] + [False] * int(seconds)
    ]


def mixed(count: int, seed: int) -> list[Job]:
    """Many at once, of all sizes, each with a model of its own."""
    rng = random.Random(seed)
    sizes = [2, 3, 5, 6, 9, 14, 20, 40]
    return [
        Job(
            client=f"c{n}",
            model=f"m{n}",
            size=rng.choices(sizes, [6, 6, 5, 5, 4, 3, 2, 1])[0] * GIB,
            at=rng.uniform(0, count),
            work=rng.uniform(20, 120),
            uid=n % 7,
        )
        for n in range(count)
    ]


def fleet(devices: int, jobs: int, seed: int) -> list[Job]:
    """More than the devices can serve at once: four models a device, and a queue of a thousand and more."""
    rng = random.Random(seed)
    return [
        Job(
            client=f"c{n % 50}",
            model=f"m{rng.randrange(4 * devices)}",
            size=rng.choice([10, 20, 30, 40]) * GIB,
            at=rng.uniform(0, 10) if n < jobs * 2 // 3 else rng.uniform(10, 45),
            work=rng.uniform(5, 30),
            uid=n % 20,
        )
        for n in range(jobs)
    ]
