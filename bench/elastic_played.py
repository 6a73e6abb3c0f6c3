"""Elastic contexts in played time: bench/elastic_played.py [--shortest] [--agents N] [--talks N] [--traces N]
[--pause SECONDS] [--idle SECONDS] [--limit GIB]: the traces of bench/elastic.py, through the core that the daemon runs
and what the gateway remembers of slots. No engine runs: an instance takes what an H100 is charged for Llama 3.1 8B in
4 bits (docs/elastic.md), and each turn, load and move the seconds that it took there. So steps and rules can be
compared in seconds, alike on every machine.

Contexts are static, four slots of the whole, or elastic by several steps. "shared": a conversation takes a free slot
of an instance that runs, as any request does; "apart": lmxd's way, by which it has an instance of its own where there
is room and others go on in all slots; "2 at last": the same, with two slots in each instance of the last step.
"unified": one cache for all, of which each conversation has as many shares as it needs, and larger ones that take its
place when it is full; where cells are short, what lies in the idle slots that were used longest ago is lost. There
"apart" is the wish for a larger cache, where nothing is left of a conversation, and what goes on leaves it no room.
"bound": all conversations in one instance, with no more cells than they have tokens, as no engine has them. "anew":
tokens of prompts that were computed again, since another conversation had the slot, or its cells; files are only
played where a larger cache takes another's place.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from elastic_trace import TOP, Scale, Trace, trace
from played_agents import PlayedAgents, turns
from played_setting import GIB, Setting, charge
from played_sharing import SharingAgents

STATIC_SLOTS = 4
SIZES = (
    (1024, (32,)),
    (1024, (48,)),
    (1024, (64,)),
    (1024, (16, 32)),
    (1024, (16, 32, 64, 128)),
    (1024, (24, 32, 64, 128)),
    (1024, (32, 64, 128)),
    (1024, (32, 48, 64, 96, 128)),
    (2048, (16, 32, 64)),
    (512, (64, 128, 256)),
)
"""The tokens of a share, and how many there are in one cache: in the first, and in those that take its place."""
STEPS = (
    (4096, 16_384, TOP),
    (4096, 8192, 16_384, TOP),
    (2048, 8192, TOP),
    (2048, 4096, 8192, 16_384, TOP),
    (1024, 4096, 16_384, TOP),
)


@dataclass(frozen=True, slots=True)
class Played:
    """The mean of several traces. ``bytes``: byte-seconds beside those of static contexts; ``anew``: tokens."""

    bytes: float
    took: float
    growths: float
    added: float
    anew: float
    most: float


def played(traces: Sequence[Trace], setting: Setting, static: Sequence[float]) -> Played:
    """``static``: the byte-seconds of static contexts for each trace."""
    runs = [(SharingAgents if setting.sizes else PlayedAgents)(said, setting) for said in traces]
    for run in runs:
        run.run()
    growths = [seconds for run in runs for seconds in run.growths]
    return Played(
        bytes=statistics.mean(run.byte_seconds / had for run, had in zip(runs, static, strict=True)),
        took=statistics.mean(run.took for run in runs),
        growths=len(growths) / len(runs),
        added=max(growths, default=0.0),
        anew=statistics.mean(run.anew for run in runs),
        most=max(run.most for run in runs) / GIB,
    )


def bound(said: Trace) -> float:
    """Byte-seconds of all conversations in one instance that has the cells of each from its turn to the next."""
    steps = sorted(_cells(said))
    cells, found = 0, 0.0
    for (at, more), (until, _) in pairwise(steps):
        cells += more
        found += charge(cells) * (until - at)
    return found


def _cells(said: Trace) -> Iterator[tuple[float, int]]:
    """When cells are taken, and given back: each turn has those of its whole prompt and answer."""
    for begins, ends, tokens in turns(said):
        yield begins, tokens
        yield ends, -tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="one trace, and two ways")
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--talks", type=int, default=1, help="conversations of each agent")
    parser.add_argument("--traces", type=int, default=10, help="the seeds from 1 to this one")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds of work between two turns, in the mean")
    parser.add_argument("--idle", type=float, default=3.0, help="seconds after which an unused instance ends")
    parser.add_argument("--limit", type=float, default=24.0, help="GiB of the card")
    given = parser.parse_args()
    count = 1 if given.shortest else given.traces
    traces = [trace(seed, given.agents, given.talks, Scale(1), pause=given.pause) for seed in range(1, count + 1)]

    def setting(steps: tuple[int, ...], slots: int, *, apart: bool = True, last: int = 1) -> Setting:
        limit = round(given.limit * GIB)
        return Setting(steps=steps, slots=slots, apart=apart, idle=given.idle, limit=limit, last=last)

    alone = [PlayedAgents(said, setting((TOP,), STATIC_SLOTS)) for said in traces]
    for run in alone:
        run.run()
    static = [run.byte_seconds for run in alone]
    print(f"{given.agents} agents, {sum(said.answers for said in traces) / count:.0f} answers in the mean of {count}")
    print(f"{'':46}{'bytes':>7}{'seconds':>9}{'growths':>9}{'longest':>9}{'anew':>11}{'GiB':>6}")

    def show(name: str, found: Played) -> None:
        print(f"{name:46}{found.bytes - 1:+7.0%}{found.took:9.0f}{found.growths:9.1f}{found.added:9.1f}", end="")
        print(f"{found.anew:11,.0f}{found.most:6.1f}", flush=True)

    show(f"static, {STATIC_SLOTS} slots", played(traces, setting((TOP,), STATIC_SLOTS), static))
    for steps in STEPS[:1] if given.shortest else STEPS:
        for way, apart, last in (("shared", False, 1), ("apart", True, 1), ("2 at last", True, 2)):
            name = f"{', '.join(f'{step:,}' for step in steps)}, {way}"
            show(name, played(traces, setting(steps, given.agents, apart=apart, last=last), static))
    for share, sizes in SIZES[:1] if given.shortest else SIZES:
        for way, apart in (("shared", False), ("apart", True)):
            one = replace(setting((share, TOP), sizes[0], apart=apart), sizes=sizes)
            show(f"unified, {', '.join(map(str, sizes))} shares of {share:,}, {way}", played(traces, one, static))
    ideal = statistics.mean(bound(said) / had for said, had in zip(traces, static, strict=True))
    print(f"{'bound':46}{ideal - 1:+7.0%}")


if __name__ == "__main__":
    main()
