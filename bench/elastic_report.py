"""What bench/elastic.py prints: a line for each trial, and how elastic contexts compare with static ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from elastic_agents import Run, compared
from elastic_watch import Seen

GIB = 2**30


@dataclass(frozen=True)
class Trial:
    """One side, once. ``taken``: byte-seconds of its processes, as the card or /proc has them.

    ``troubles``: how often lmxd was killed, or others took what was free.
    """

    side: str
    run: Run
    seen: Seen
    taken: float
    ooms: int
    troubles: int

    @property
    def per_minute(self) -> float:
        return 60 * len(self.run.served) / self.run.took


def head() -> None:
    """The head of the lines."""
    print(f"\n{'':9}{'agents':>7}{'answers':>9}{'wait, s':>14}{'GiB s':>18}{'most':>6}{'tokens':>10}")
    print(
        f"{'':9}{'at once':>7}{'/min':>9}{'p50':>7}{'p99':>7}{'ledger':>9}{'taken':>9}{'GiB':>6}{'computed':>10}",
        flush=True,
    )


def show(trial: Trial) -> None:
    """The line of a trial, as soon as it is over."""
    run, seen = trial.run, trial.seen
    computed = sum(answer.computed for answer in run.answers)
    print(
        f"{trial.side:9}{run.at_once:7}{trial.per_minute:9.1f}{part(run.waits, 0.5):7.2f}"
        f"{part(run.waits, 0.99):7.2f}{seen.byte_seconds / GIB:9.1f}{trial.taken / GIB:9.1f}"
        f"{seen.most / GIB:6.2f}{computed:10,}",
        flush=True,
    )


def report(trials: Sequence[Trial], *, alone: bool) -> bool:
    """Print how the sides compare; whether all is as it must be. ``alone``: every answer has to be equal."""
    compare_bytes(trials)
    grown(trials)
    return compare_answers(trials, alone=alone) & sound(trials)


def compare_bytes(trials: Sequence[Trial]) -> None:
    """Agents at once, and byte-seconds for an answer: the median of one side against that of the other."""
    if {trial.side for trial in trials} != {"static", "elastic"}:
        return
    at_once = ratio(trials, lambda trial: trial.run.at_once)
    ledger = ratio(trials, lambda trial: trial.seen.byte_seconds / len(trial.run.answers))
    taken = ratio(trials, lambda trial: trial.taken / len(trial.run.answers))
    print(f"elastic against static: {at_once:.1f} x the agents at once", end="")
    print(f", {ledger - 1:+.0%} byte-seconds by the ledger, {taken - 1:+.0%} as taken")


def ratio(trials: Sequence[Trial], figure: Callable[[Trial], float]) -> float:
    """Elastic over static."""
    elastic, static = (
        statistics.median(figure(trial) for trial in trials if trial.side == name) for name in ("elastic", "static")
    )
    return elastic / max(1e-9, static)


def grown(trials: Iterable[Trial]) -> None:
    seen = [trial.seen for trial in trials if trial.seen.growths]
    if not seen:
        return
    growths = sorted(seconds for one in seen for seconds in one.growths)
    beyond = sorted(seconds for one in seen for seconds in one.beyond_load)
    loads = sorted(seconds for one in seen for seconds in one.loads)
    carries = sum(one.carries for one in seen)
    print(f"growths: {len(growths)}, {carries} with a conversation to carry; added seconds", end="")
    print(f" p50 {part(growths, 0.5):.2f}, p99 {part(growths, 0.99):.2f}", end="")
    print(f"; beyond the load p50 {part(beyond, 0.5):.2f}, p99 {part(beyond, 0.99):.2f}", end="")
    print(f"; loads p50 {part(loads, 0.5):.2f}, longest {part(loads, 1):.2f}")


def compare_answers(trials: Sequence[Trial], *, alone: bool) -> bool:
    """Whether all are equal that have to be."""
    first = next((trial for trial in trials if trial.side == "static"), None)
    held = True
    for trial in trials:
        if first is None or trial is first:
            continue
        same = compared(first.run, trial.run)
        print(f"{trial.side}: {same.equal} of {same.answers} answers are equal, token by token", end="")
        print(f", {same.equal_talks} of {same.talks} conversations")
        held &= same.equal == same.answers
    return held or not alone


def sound(trials: Sequence[Trial]) -> bool:
    """Whether nothing failed."""
    ooms, overdrawn = sum(trial.ooms for trial in trials), sum(trial.seen.overdrawn for trial in trials)
    errors = [f"{trial.side}: {error}" for trial in trials for error in trial.run.errors]
    if troubles := sum(trial.troubles for trial in trials):
        print(f"{troubles} times lmxd was killed, or others took what was free")
    print(f"{ooms} out of memory, {len(errors)} answers failed", end="")
    print(f"; {overdrawn} of {sum(trial.seen.looks for trial in trials)} looks showed less than nothing free")
    for error in errors:
        print(f"  ! {error}")
    return not ooms and not errors


def part(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
