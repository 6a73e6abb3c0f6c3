"""Models that have no room as a whole, on a GPU and RAM: lmxd's `fit: auto` beside llama-server's own `--fit on`.

bench/fit_auto.py [--only cases,speeds]: needs an NVIDIA GPU and a CUDA llama-server on PATH. Models have the shapes of
well-known ones and zero weights. A foreign process leaves so many GiB free, of which both keep 1 to themselves; either
launches the model in turn, in rotating order, is asked 2,000 tokens, and writes 64 three times. Rates are the best ones
seen: what else runs on a machine only makes them lower. Bytes are NVML's after that. Then each choice of `lmxctl plan`
is launched by itself, on the empty card: tokens per second beside SPEED. llama-server does not count what its first
prompts fetch: it is measured once more with so much less. The exit status is 1 if lmxd took more than it promised.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "bench"))

from multi_gpu import Cards, daemon, foreign, profile  # noqa: E402
from on_gpu import ready  # noqa: E402
from shapes import written  # noqa: E402

from lmxd.engines.environment import environment  # noqa: E402
from lmxd.engines.llama_cpp.binary import find  # noqa: E402
from lmxd.gguf.overrides import experts_in_ram, words  # noqa: E402
from lmxd.rpc.client import Client  # noqa: E402
from lmxd.rpc.explanations import ChoiceInfo  # noqa: E402

GIB, MIB = 2**30, 2**20
MARGIN = 1
CASES = (
    # shape, tokens, GiB that are free
    ("qwen3-30b-a3b-q4_0", 16384, 12.0),
    ("gpt-oss-20b", 16384, 9.0),
    ("qwen3-30b-a3b-q4_0", 8192, 6.0),
    ("llama31-8b-q4_0", 8192, 5.0),
    ("dsv2-lite-q4_0", 8192, 6.0),
    ("gemma3-12b-q4_0", 8192, 7.0),
)
SPEEDS = (("qwen3-30b-a3b-q4_0", 10.0), ("llama31-8b-q4_0", 4.0))
ROUNDS = 3
LESS = 240
"""MiB that llama-server fetches with its first prompts, and does not count: so much more it is to leave free."""
PAGE = 2 * MIB
"""Bytes that NVML counts in."""


class Run(NamedTuple):
    """One launch: bytes of the process on the GPU, and tokens per second of its prompt and its answer."""

    taken: int
    prompt: float
    answer: float


def timed(url: str, key: str = "") -> tuple[float, float]:
    """(tokens per second of a prompt, of the best of three answers)."""
    said = [_asked(url, key, length) for length in (2000, 16, 16)]
    return said[0]["prompt_per_second"], max(x["predicted_per_second"] for x in said)


def _asked(url: str, key: str, length: int) -> dict[str, float]:
    body = {"prompt": [300 + 7 * n % 900 for n in range(length)], "n_predict": 64, "ignore_eos": True}
    request = urllib.request.Request(f"{url}/completion", json.dumps(body | {"cache_prompt": False}).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=200) as answer:
        found: dict[str, float] = json.loads(answer.read())["timings"]
    return found


def by_lmxd(client: Client, cards: Cards) -> tuple[Run, int, str]:
    """(what it did, the bytes that were promised, how it was divided)."""
    [chosen] = [choice for choice in client.plan("m").choices if choice.chosen]
    divided = f"{chosen.gpu_layers} layers" + (
        f", {chosen.experts_in_ram} less experts" if chosen.experts_in_ram else ""
    )
    with client.request("m") as lease:
        [instance] = client.instances().instances
        assert instance.pid is not None
        rates = timed(str(instance.endpoint), lease.api_key)
        taken = cards.of(instance.pid)[0]
    return Run(taken, *rates), instance.promised[cards.ids[0]], divided


@contextmanager
def server(path: Path, cards: Cards, *flags: str) -> Iterator[Run]:
    argv = [str(find(None)), "-m", str(path), "-np", "1", "--port", "21500", *flags]
    process = subprocess.Popen(argv, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert ready(process, 21500), "llama-server does not start"
        rates = timed("http://127.0.0.1:21500")
        yield Run(cards.of(process.pid)[0], *rates)
    finally:
        process.kill()
        process.wait()


def cases(place: Path, cards: Cards) -> bool:
    print(f"{'':44}{'promised':>9}{'taken':>8}{'prompt':>8}{'answer':>8}")
    good = True
    for shape, tokens, free in CASES:
        ballast = (cards.capacity - cards.used()[0]) / GIB - free
        found: dict[str, list[Run]] = {"lmxd, fit: auto": [], "llama-server, --fit on": [], "the same, with less": []}
        promised, divided = 0, ""
        with foreign(cards.ids[0], ballast):
            left = (cards.capacity - cards.used()[0]) / GIB
            for round in range(ROUNDS):
                for way in [*found][round % len(found) :] + [*found][: round % len(found)]:
                    if way.startswith("lmxd"):
                        m = profile(place, shape, tokens, fit="auto")
                        with daemon({"m": m}, None, gpu={"margin_gb": MARGIN}) as (_, client):
                            run, promised, divided = by_lmxd(client, cards)
                        found[way].append(run)
                    else:
                        path = written(place, shape, speaking=True)
                        kept = MARGIN * 1024 + (LESS if way == "the same, with less" else 0)
                        with server(path, cards, "-c", str(tokens), "--fit", "on", "-fitt", str(kept)) as run:
                            found[way].append(run)
                    time.sleep(1)
        print(f"{shape}, {tokens} tokens, {left:.1f} GiB free: {divided}", flush=True)
        for way, runs in found.items():
            taken = max(run.taken for run in runs)
            prompt, answer = (max(getattr(run, rate) for run in runs) for rate in ("prompt", "answer"))
            told = f"{promised / MIB:9,.0f}" if way.startswith("lmxd") else f"{'-':>9}"
            print(f"  {way:42}{told}{taken / MIB:8,.0f}{prompt:8,.0f}{answer:8.1f}", flush=True)
        mine, own, same = (max(run.answer for run in runs) for runs in found.values())
        kept = max(run.taken for run in found["lmxd, fit: auto"]) <= promised + PAGE
        over = "" if kept else "; MORE THAN WAS PROMISED"
        print(f"  {mine / own:.2f} of its speed, {mine / same:.2f} where it takes no more{over}", flush=True)
        good = good and kept
    return good


def speeds(place: Path, cards: Cards) -> bool:
    for shape, free in SPEEDS:
        with foreign(cards.ids[0], (cards.capacity - cards.used()[0]) / GIB - free):
            m = profile(place, shape, 8192, fit="auto")
            with daemon({"m": m}, None, gpu={"margin_gb": MARGIN}) as (_, client):
                choices = client.plan("m").choices
        time.sleep(1)
        print(f"\n{shape}: tokens per second of answers")
        print(f"{'on GPU':>8}{'experts in RAM':>16}{'tokens/s':>10}{'part':>7}{'SPEED':>7}")
        whole = 0.0
        for choice in choices:
            with server(
                written(place, shape, speaking=True), cards, "-c", "8192", "--fit", "off", *_flags(choice)
            ) as run:
                whole = whole or run.answer
                row = f"{choice.gpu_layers:8}{choice.experts_in_ram:16}{run.answer:10.1f}{run.answer / whole:7.2f}"
                print(f"{row}{choice.speed:7.2f}", flush=True)
    return True


def _flags(choice: ChoiceInfo) -> list[str]:
    """Of whole layers, as near to the choice as they come."""
    experts = words([experts_in_ram(choice.experts_in_ram)]) if choice.experts_in_ram else []
    return ["-ngl", str(choice.gpu_layers), *experts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts to run, by name, with commas between")
    given = parser.parse_args()
    try:
        cards = Cards()
    except Exception as error:
        sys.exit(f"an NVIDIA GPU is needed: {error}")
    print(cards.name)
    parts: dict[str, Callable[[Path, Cards], bool]] = {"cases": cases, "speeds": speeds}
    with tempfile.TemporaryDirectory() as place:
        chosen = [part for name, part in parts.items() if given.only is None or name in given.only.split(",")]
        good = [part(Path(place), cards) for part in chosen]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
