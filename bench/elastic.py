"""Agents that pay for the context they use, beside agents that pay for the one they may use.

bench/elastic.py [--shortest] [--little | --gguf FILE | --shape NAME [--random]] [--gpu [--device N]] [--limit GIB]
[--agents N] [--talks N] [--scale N] [--start N] [--steps N ...] [--share N] [--cache N ...] [--idle SECONDS] [--above
PART] [--trials N] [--alone] [--only WHICH] [--kill SECONDS] [--squeeze] [--decisions FILE]: the same trace, whose
conversations follow a heavy tail, through lmxd's gateway in rotating order: *static* with as many slots of the whole
context as fit, *elastic* with a small slot for each agent, and larger ones for conversations that grow, *unified* with
one cache in which each conversation has as many shares as it needs. In RAM it is SmolLM2, everything in tokens divided
by ``--scale``, or a little model that is soon done, under a limit that gives the shares that 24 GiB give to an 8B.
Answers are greedy, and compared token by token with the first static run. That can only hold where no conversation
takes another's slot, and each is decoded alone: ``--alone`` gives each agent a model of its own with one slot, and
room for all; then every answer must be equal, and nobody shares a cache. The little model and shapes have zero weights
and one answer to everything: what they say of bytes and times holds, of tokens nothing. ``--random`` gives a shape
weights whose answers depend on all that was read. ``--kill`` ends lmxd by SIGKILL at random moments, and ``--squeeze``
has others take what is free while a conversation grows, which in RAM is played; clients ask once, and have to see
nothing of either. Exit status 1: an answer failed, memory was short, or an answer that had to be equal is not.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic
from arena_models import SMOLLM2, Model, file_of, size_of
from arena_watch import Card, Memory, Ram, Watch, foreign, settle
from elastic_agents import Agents
from elastic_report import Trial, head, report, show
from elastic_sides import GIB, Setting, Side, config, describe, sides
from elastic_trace import TOP, Scale, trace
from elastic_trouble import Kills, Squeezes, Trouble
from elastic_watch import Ledger
from gateway_overhead import Quietly
from gateway_process import Gateway
from lmxd_process import Lmxd
from played_ram import PlayedRam
from random_weights import written_random

from lmxd.engines.llama_cpp.binary import find

START, LARGER = 4096, 4
"""Tokens that an elastic context begins with, and how often those the next step has, before ``TOP``."""
SHARE = 1024
"""Tokens by which contexts grow that share one cache."""
STATIC_SLOTS, OF_24_GIB = 4, 24 / 21.4
"""An 8B in 4 bits takes 21.4 GiB with four slots of 32,768 tokens, and five have no room in 24."""
IDLE = 10.0
"""Seconds after which an instance that nobody uses ends."""


def measure(setting: Setting, side: Side, memory: Memory, least: int) -> Trial:
    """One trial, on processes that are new."""
    settle(memory, least)
    with tempfile.TemporaryDirectory(prefix="lmxd") as name:
        with daemon(setting, side, Path(name)) as lmxd, Gateway(lmxd, wait=900) as gateway, ExitStack() as stack:
            watch = Watch(memory)
            watch.start()
            went_wrong = [stack.enter_context(trouble) for trouble in troubles(setting, side, lmxd)]
            with Ledger(lmxd) as seen:
                run = Agents(setting.trace, gateway, setting.names()).run()
            stack.close()
            watch.over.set()
            watch.join()
        logs = [file.read_text(errors="replace") for file in Path(name).rglob("*.log")]
    ooms = sum(log.count("out of memory") for log in logs)
    return Trial(side.name, run, seen, watch.byte_seconds, ooms, sum(trouble.count for trouble in went_wrong))


def daemon(setting: Setting, side: Side, place: Path) -> Lmxd:
    """lmxd, on a machine of which others can take some."""
    if setting.squeeze and not setting.gpu:
        return PlayedRam(place, config(setting, side), setting.limit)
    return Quietly(place, config(setting, side))


def troubles(setting: Setting, side: Side, lmxd: Lmxd) -> list[Trouble]:
    """What goes wrong while agents are served with elastic contexts."""
    if not side.keys:
        return []
    found: list[Trouble] = [Kills(lmxd, setting.seed, setting.kill)] if setting.kill else []
    if setting.squeeze:
        played = lmxd.others_have if isinstance(lmxd, PlayedRam) else lambda taken: foreign(taken / GIB, setting.device)
        found.append(Squeezes(lmxd, played))
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shortest", action="store_true", help="seconds in all, with the little model")
    parser.add_argument("--little", action="store_true", help="a little model, with an 8B's shares")
    parser.add_argument("--engine", type=Path, help="the llama-server, instead of the one on PATH or in a wheel")
    parser.add_argument("--gpu", action="store_true", help="it runs on the GPU")
    parser.add_argument("--device", type=int, default=0, help="the number of that GPU")
    parser.add_argument("--gguf", type=Path, help="another model than SmolLM2")
    parser.add_argument("--shape", default=SMOLLM2, help="a model of zero weights, such as llama31-8b-q4_0")
    parser.add_argument("--random", action="store_true", help="the shape has random weights, not zeros")
    parser.add_argument("--limit", type=float, help="GiB that lmxd may use")
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--talks", type=int, default=2, help="conversations of each agent")
    parser.add_argument(
        "--above", type=float, default=0.0, help="only conversations larger than this part, such as 0.9"
    )
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of work between two turns, in the mean")
    parser.add_argument("--scale", type=int, help="what tokens are divided by: 4 for SmolLM2, else 1")
    parser.add_argument("--start", type=int, default=START, help="tokens that an elastic context begins with")
    parser.add_argument("--steps", type=int, nargs="+", help=f"those it grows to before {TOP:,}: 4 times as many")
    parser.add_argument("--share", type=int, default=SHARE, help="tokens by which contexts grow that share one cache")
    parser.add_argument("--cache", type=int, nargs="+", default=[TOP], help="tokens of that cache, and of larger ones")
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds after which an unused instance ends")
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="each agent has a model of its own with one slot")
    parser.add_argument("--kill", type=float, default=0.0, help="seconds between two SIGKILLs of lmxd, in the mean")
    parser.add_argument("--squeeze", action="store_true", help="others take what is free while one grows")
    parser.add_argument("--decisions", type=Path, help="a file for all that lmxd decides, a JSON document on each line")
    parser.add_argument("--only", default="", help="the sides whose names match this expression")
    given = parser.parse_args()
    if given.shortest:
        given.little, given.agents, given.talks, given.scale, given.limit = True, 2, 4, 16, 1.0
    given.scale = given.scale or (4 if not given.little and not given.gguf and given.shape == SMOLLM2 else 1)
    return given


def little(place: Path, scale: int) -> Path:
    """A model that computes little: its bytes beside the context are those of 44,000 tokens, an 8B's of 39,000.

    Its cache is wider by the scale, so that shares of the bytes stay as they are, too.
    """
    heads = 2 * scale
    parts = synthetic.decoder(
        "llama", layers=5, embedding=256, heads=2 * heads, kv_heads=heads, feed_forward=512, vocabulary=2048, head=64,
        kind="f32",
    )  # fmt: skip
    return synthetic.write(place / "little.gguf", *synthetic.speaking(parts))


def model_file(given: argparse.Namespace, place: Path) -> Path:
    """The file of a model that is not the user's."""
    if given.little:
        return little(place, 1 if given.shortest else given.scale)
    return written_random(place, given.shape) if given.random else file_of(place, given.shape)


def settings(given: argparse.Namespace, place: Path) -> Setting:
    model = given.gguf or model_file(given, place)
    scale = Scale(given.scale)
    said = trace(given.seed, given.agents, given.talks, scale, pause=given.pause, above=given.above)
    size = size_of(Model("model", model, scale.top, 1 if given.alone else STATIC_SLOTS, given.gpu))
    # alone, there is room for what each has and for what it grows into
    usual = size * 2 * given.agents + GIB if given.alone else round(size * OF_24_GIB)
    return Setting(
        engine=find(given.engine), model=model.resolve(), gpu=given.gpu, device=given.device, trace=said, scale=scale,
        start=given.start, larger=tuple(given.steps or [LARGER * given.start]), idle=given.idle,
        share=given.share, cache=tuple(given.cache), alone=given.alone,
        limit=usual if given.limit is None else round(given.limit * GIB),
        seed=given.seed, kill=given.kill, squeeze=given.squeeze,
    )  # fmt: skip


def main() -> None:
    given = parsed()
    with tempfile.TemporaryDirectory() as name:
        setting = settings(given, Path(name))
        every = [side for side in sides(setting) if re.search(given.only, side.name)]
        memory: Memory = Card(given.device) if given.gpu else Ram(setting.limit, setting.model.parent)
        describe(setting, every)
        head()
        least, trials = memory.used(), list[Trial]()
        for number in range(given.trials):
            first = number % len(every)
            for side in every[first:] + every[:first]:
                trials.append(measure(setting, side, memory, least))
                show(trials[-1])
        if given.decisions:
            told = ({"side": trial.side} | said for trial in trials for said in trial.seen.decisions)
            given.decisions.write_text("".join(json.dumps(said) + "\n" for said in told))
        sys.exit(not report(trials, alone=setting.alone))


if __name__ == "__main__":
    main()
