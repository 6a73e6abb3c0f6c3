"""What bench/elastic.py prints: a line for each trial, and how each side compares with static contexts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
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

    @property
    def computed(self) -> int:
        """Tokens of prompts."""
        return sum(answer.computed for answer in self.run.answers)


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
    print(
        f"{trial.side:9}{run.at_once:7}{trial.per_minute:9.1f}{part(run.waits, 0.5):7.2f}"
        f"{part(run.waits, 0.99):7.2f}{seen.byte_seconds / GIB:9.1f}{trial.taken / GIB:9.1f}"
        f"{seen.most / GIB:6.2f}{trial.computed:10,}",
        flush=True,
    )


def report(trials: Sequence[Trial], *, alone: bool) -> bool:
    """Print how the sides compare; whether all is as it must be. ``alone``: every answer has to be equal."""
    compare_figures(trials)
    for side in dict.fromkeys(trial.side for trial in trials):
        grown(side, [trial.seen for trial in trials if trial.side == side])
    return compare_answers(trials, alone=alone) & sound(trials)


FIGURES: dict[str, Callable[[Trial], float]] = {
    "agents at once": lambda trial: trial.run.at_once,
    "answers/min": lambda trial: trial.per_minute,
    "wait p50": lambda trial: part(trial.run.waits, 0.5),
    "wait p99": lambda trial: part(trial.run.waits, 0.99),
    "GiB s, ledger": lambda trial: trial.seen.byte_seconds / len(trial.run.answers),
    "GiB s, taken": lambda trial: trial.taken / len(trial.run.answers),
    "computed": lambda trial: trial.computed,
}
"""What is compared with static contexts, by its name in the report. Byte-seconds are those of an answer."""


def compare_figures(trials: Sequence[Trial]) -> None:
    """The median of each side that is not static, as a part of static's."""
    sides = dict.fromkeys(trial.side for trial in trials)
    others = [side for side in sides if side != "static"]
    if len(others) == len(sides) or not others:
        return
    print(f"\n{'x static':9}" + "".join(f"{name:>15}" for name in FIGURES))
    for side in others:
        parts = (ratio(trials, side, figure) for figure in FIGURES.values())
        print(f"{side:9}" + "".join(f"{each:15.2f}" for each in parts))


def ratio(trials: Sequence[Trial], side: str, figure: Callable[[Trial], float]) -> float:
    """One side over static."""
    mine, static = (
        statistics.median(figure(trial) for trial in trials if trial.side == name) for name in (side, "static")
    )
    return mine / max(1e-9, static)


def grown(side: str, seen: Sequence[Seen]) -> None:
    """The growths of a side, and what they added."""
    growths = sorted(seconds for one in seen for seconds in one.growths)
    if not growths:
        return
    beyond = sorted(seconds for one in seen for seconds in one.beyond_load)
    loads = sorted(seconds for one in seen for seconds in one.loads)
    carries, stayed = sum(one.carries for one in seen), sum(one.stayed for one in seen)
    print(f"{side}: {len(growths)} growths, {stayed} in place, {carries} with a conversation to carry", end="")
    print(f"; added seconds p50 {part(growths, 0.5):.2f}, p99 {part(growths, 0.99):.2f}", end="")
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
