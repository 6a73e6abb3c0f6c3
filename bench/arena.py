"""Managers of many models side by side: the same llama-server, models, clients and requests, in one run.

bench/arena.py [--host] [--peers DIR] [--managers lmxd,large-model-proxy,llama-swap,router,naive]
    [--traces burst,alone,rivals,agents,alternate,crowd] [--foreign GIB,...] [--rounds N] [--seed N] [--json FILE]

  burst      40 requests at once, for any of the models
  alone      two clients who never stop asking for one model
  rivals     the same, and one who now and then asks for another that does not fit beside it
  agents     each its own model: three requests, then a pause
  alternate  one client who asks for A, B, A, B ...
  crowd      eight clients on each of two models that do not fit together, four slots each

Needs a CUDA llama-server on PATH and the first NVIDIA GPU; with --host it runs in RAM, with SmolLM2. The programs of
peers (large-model-proxy, llama-swap) are taken from --peers, and left out if they are not there. Peers are told by hand
what lmxd finds out: bytes by lmxd's own estimates (large-model-proxy), sets that fit (llama-swap), how many of the
largest fit (router; router:4 is its default). Managers take turns in going first; files are read once before, so that
all find them in the page cache.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")]

from arena_managers import MANAGERS, Naive, Setting, chosen  # noqa: E402
from arena_models import Model, models  # noqa: E402
from arena_report import Report, Run  # noqa: E402
from arena_traces import CROWD_SLOTS, OF_RIVALS, TRACES, Scale, play  # noqa: E402
from arena_watch import GIB, Card, Memory, Ram, Watch, foreign, settle  # noqa: E402

ON_GPU = (
    "llama31-8b-q4_0:65536:1,llama31-8b-q4_0:32768:4,gemma3-12b-q4_0:16384:1,qwen3-30b-a3b-q4_0:32768:1,"
    "gpt-oss-20b:32768:1,llama31-70b:32768:1,qwen3-4b-q4_0:32768:2"
)
IN_RAM = "smollm2:2048:1,smollm2:4096:1,smollm2:8192:1,smollm2:2048:2,smollm2:8192:2"
RIVALS_ON_GPU = "llama31-70b:81920:1,qwen3-30b-a3b-q4_0:32768:1"
RIVALS_IN_RAM = "smollm2:8192:2,smollm2:8192:2"
MARGIN = GIB
"""Of a card, what managers are told to leave."""


@dataclass(slots=True)
class Arena:
    """One place with models and memory, in which managers are tried one after the other."""

    place: Path
    memory: Memory
    given: argparse.Namespace
    several: list[Model]
    rivals: list[Model]
    limit: int
    loads: dict[str, float] = field(default_factory=dict)
    """Seconds from the start of a server by hand to its first token, of the rivals."""
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def models(self, trace: str) -> list[Model]:
        if trace not in OF_RIVALS:
            return self.several
        return [m.divided(CROWD_SLOTS) for m in self.rivals] if trace == "crowd" else self.rivals

    def run(self, trace: str, name: str, gib: float, seed: int) -> Run:
        """One manager, one trace."""
        setting = self.setting(self.models(trace))
        kind, _, option = name.partition(":")
        settle(self.memory, int(gib * GIB))
        watch = Watch(self.memory)
        try:
            with MANAGERS[kind](setting, option) as manager:
                watch.start()
                begun = time.monotonic()
                answers = asyncio.run(play(trace, manager, setting.models, self.scale, seed))
                took = time.monotonic() - begun
        finally:
            watch.over.set()
        return Run(trace, name, gib, seed, took, watch.loads, manager.ooms(), watch.byte_seconds / GIB, answers)

    def setting(self, models: Sequence[Model]) -> Setting:
        place = self.place / f"run{next(self._ids)}"
        place.mkdir()
        given = self.given
        depth = None if given.defaults else 200
        return Setting(place, models, self.limit, not given.host, given.peers.resolve(), depth)

    @property
    def scale(self) -> Scale:
        given = self.given
        return Scale(given.seconds, given.requests, given.swaps)

    def time_loads(self) -> None:
        """How long each rival takes by itself, the page cache warm."""
        for model in self.rivals:
            settle(self.memory, 0)
            with Naive(self.setting([model])) as manager:
                (answer,) = asyncio.run(play("burst", manager, [model], Scale(0, 1, 0), 0))
            if answer.error:
                sys.exit(f"{model.name} does not load: {answer.error}")
            self.loads[model.name] = answer.waited


def warm(found: Sequence[Model]) -> None:
    """Read every file once."""
    for path in {model.path for model in found}:
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # with all that was started
    with tempfile.TemporaryDirectory(dir=given.place) as name:
        arena = prepared(Path(name), given)
        names = chosen(given.managers.split(","), given.peers)
        report = Report(arena.memory.name, arena.limit, arena.rivals, arena.loads, given.seconds)
        report.begin(arena.several)
        for trace in given.traces.split(","):
            for gib in given.foreign if trace == "rivals" else (0.0,):
                with foreign(gib):
                    for number in range(given.rounds):
                        first = number % len(names)
                        for manager in names[first:] + names[:first]:
                            report.add(arena.run(trace, manager, gib, given.seed + number))
                            keep(report, given.json)
                report.show(trace, gib)


def keep(report: Report, path: Path | None) -> None:
    """After each run, for whoever ends the rest."""
    if path is not None:
        path.write_text(json.dumps([dataclasses.asdict(run) for run in report.runs], indent=1))


def prepared(place: Path, given: argparse.Namespace) -> Arena:
    """Models written, sized and read once."""
    on_gpu = not given.host
    files = place / "models"
    files.mkdir()
    several = models(files, (given.models or (ON_GPU if on_gpu else IN_RAM)).split(","), on_gpu)
    rivals = models(files, (given.rivals or (RIVALS_ON_GPU if on_gpu else RIVALS_IN_RAM)).split(","), on_gpu)
    memory: Memory
    if on_gpu:
        memory = Card()
        limit = memory.capacity - MARGIN
    else:  # room for the largest and half as much, so that rivals do not fit together
        limit = max(m.size for m in several + rivals) * 3 // 2
        memory = Ram(limit, files)
    limit = int(given.limit * GIB) if given.limit else limit
    if sum(m.size for m in rivals) <= limit:
        print("! the rivals fit together", file=sys.stderr)
    warm(several + rivals)
    arena = Arena(place, memory, given, several, rivals, limit)
    if "alternate" in given.traces:
        arena.time_loads()
    return arena


def sizes(words: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words.split(","))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="store_true", help="in RAM")
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="directory of the peers' programs")
    parser.add_argument("--managers", default=",".join(MANAGERS))
    parser.add_argument("--traces", default=",".join(TRACES))
    parser.add_argument("--models", help="SHAPE:CONTEXT:SLOTS,... of burst and agents")
    parser.add_argument("--rivals", help="HOT,COLD of the other traces, in the same form")
    parser.add_argument("--limit", type=float, help="GiB that managers may use, as they are told")
    parser.add_argument(
        "--foreign", type=sizes, default=(0.0,), help="GiB,... that another process holds: rivals are run with each"
    )
    parser.add_argument("--seconds", type=float, default=45.0, help="for which clients go on asking")
    parser.add_argument("--requests", type=int, default=40, help="of a burst")
    parser.add_argument("--swaps", type=int, default=8, help="requests of alternate")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--defaults", action="store_true", help="leave queues as short as the managers have them")
    parser.add_argument("--place", type=Path, help="directory for the models' files")
    parser.add_argument("--json", type=Path, help="write every answer there")
    given = parser.parse_args()
    unknown = set(given.traces.split(",")) - set(TRACES)
    unknown |= {name.partition(":")[0] for name in given.managers.split(",")} - set(MANAGERS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if given.host and any(given.foreign):
        parser.error("--foreign is about a card")
    return given


if __name__ == "__main__":
    main()
