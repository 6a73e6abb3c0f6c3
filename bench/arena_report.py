"""What bench/arena.py prints: a table of 80 columns for each trace."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from arena_models import Model
from arena_traces import Answer

GIB = 2**30
HEAD = "manager           answered OOM  p50 s  p99 s  worst  took s loads   GiB s"


@dataclass(frozen=True, slots=True)
class Run:
    """One manager, one trace; ``foreign`` GiB were somebody else's."""

    trace: str
    manager: str
    foreign: float
    seed: int
    took: float
    loads: int
    ooms: int
    gib_seconds: float
    answers: list[Answer]

    @property
    def served(self) -> list[Answer]:
        return [a for a in self.answers if not a.error]

    def waits(self, client: str = "") -> list[float]:
        """Seconds to the first token of clients whose names begin so, sorted."""
        return sorted(a.waited for a in self.served if a.client.startswith(client))

    def answered(self, client: str, until: float) -> int:
        return sum(a.client.startswith(client) and a.ended <= until for a in self.served)


class Report:
    """Collects runs; prints each trace when all its rounds are over."""

    def __init__(
        self, memory: str, limit: int, rivals: Sequence[Model], loads: dict[str, float], seconds: float
    ) -> None:
        self.memory, self.limit, self.rivals, self.loads, self.seconds = memory, limit, rivals, loads, seconds
        self.runs: list[Run] = []

    def begin(self, several: Sequence[Model]) -> None:
        total = sum(m.size for m in several) / GIB
        print(f"{self.memory}: managers may use {self.limit / GIB:.2f} GiB")
        print(f"burst, agents: {len(several)} models of {total:.1f} GiB together")
        for model, role in zip(self.rivals, ("hot, A", "cold, B"), strict=True):
            load = f", alone to the first token {self.loads[model.name]:.2f} s" if model.name in self.loads else ""
            print(f"{role}: {model.name}, {model.size / GIB:.1f} GiB{load}")

    def add(self, run: Run) -> None:
        self.runs.append(run)
        print(f"  {run.trace} {run.manager}: {len(run.served)} in {run.took:.1f} s", file=sys.stderr, flush=True)

    def show(self, trace: str, foreign: float) -> None:
        beside = f", {foreign:g} GiB foreign" if foreign else ""
        print(f"\n{trace}{beside}; seconds to the first token\n{HEAD}")
        for run in self.runs:
            if (run.trace, run.foreign) == (trace, foreign):
                print(self._row(run))
                for line in self._more(run):
                    print(f"    {line}"[:80])
        sys.stdout.flush()

    def _row(self, run: Run) -> str:
        waits = run.waits()
        p50, p99, worst = (quantile(waits, part) for part in (0.5, 0.99, 1.0))
        served = f"{len(run.served)}/{len(run.answers)}"
        return (
            f"{run.manager:17} {served:>8} {run.ooms:3} {p50:6.2f} {p99:6.2f} {worst:6.2f}"
            f" {run.took:7.1f} {run.loads:5} {run.gib_seconds:7.1f}"
        )

    def _more(self, run: Run) -> list[str]:
        lines = []
        if run.trace == "rivals":
            hot, cold = run.waits("hot"), run.waits("cold")
            lines.append(f"hot: {len(hot)}, worst {quantile(hot, 1):.1f} s{self._kept(run)}")
            lines.append(f"cold: {len(cold)}, worst {quantile(cold, 1):.1f} s")
        elif run.trace == "alternate":
            lines.append("swaps: " + " ".join(f"{a.waited:.2f}" if not a.error else "-" for a in run.answers))
            over = [a.waited - self.loads[a.model] for a in run.served]
            lines.append(f"longer than a load: worst {max(over, default=float('nan')):+.2f} s")
        elif run.trace == "crowd":
            for model in sorted({a.model for a in run.answers}):
                mine = sorted(a.waited for a in run.served if a.model == model)
                lines.append(f"{model}: {len(mine)}, worst {quantile(mine, 1):.1f} s")
        errors = Counter(a.error for a in run.answers if a.error).most_common(2)
        return lines + [f"! {count} x {error}" for error, count in errors]

    def _kept(self, run: Run) -> str:
        """What is left of the answers that the hot clients had alone, in the same time and round."""
        for other in self.runs:
            if (other.trace, other.manager, other.seed) == ("alone", run.manager, run.seed):
                before, now = (r.answered("hot", self.seconds) for r in (other, run))
                return f", {now / before:.0%} of alone" if before else ""
        return ""


def quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
