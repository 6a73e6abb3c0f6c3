"""Weights rearranged for the CPU, or not: tokens a second of one core, and bytes beside the estimate.

bench/repack.py [--engine PATH …] [--gguf FILE … | --shape NAME] [--prompt N] [--answer N] [--trials N]: each engine
runs each model both ways, in turn. It is the time of the processor that counts, with one thread, and the best of the
trials: what else the machine does slows them less so.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from gateway_overhead import free_port, real_model
from on_gpu import ready

from lmxd.engines.llama_cpp.binary import find, probe
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.estimate.estimator import Estimator
from lmxd.gguf.launch import Launch

CONTEXT = 2048
MIB = 2**20
BUFFER = re.compile(rb"CPU\S* model buffer size = +([\d.]+) MiB")


@dataclass
class Speed:
    """Tokens of prompts and of answers for a second of a core; MiB of weights, as the engine prints them."""

    prompt: float = 0.0
    answer: float = 0.0
    weights: float = 0.0


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have computed for."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), as Linux makes its numbers


def asked(port: int, pid: int, prompt: int, answer: int) -> float:
    """Seconds of the processor for one answer."""
    body = {"prompt": [300 + 7 * n % 900 for n in range(prompt)], "n_predict": answer, "ignore_eos": True}
    # Greedy, for what is drawn may be no text, to which llama-server answers with a 500.
    body |= {"cache_prompt": False, "temperature": 0}
    data, begun = json.dumps(body).encode(), processor_time(pid)
    urllib.request.urlopen(f"http://127.0.0.1:{port}/completion", data, timeout=600).read()
    return processor_time(pid) - begun


def trial(engine: Path, gguf: Path, prompt: int, answer: int, *, repack: bool) -> Speed:
    """One server, asked once to be warm, and then for the figures."""
    port = free_port()
    argv = [str(engine), "-m", str(gguf), "--port", str(port), "-c", str(CONTEXT), "-np", "1", "--fit", "off"]
    argv += ["-t", "1", "-ngl", "0", "--device", "none", "-lv", "4", *([] if repack else ["--no-repack"])]
    with tempfile.TemporaryFile() as log, subprocess.Popen(argv, stdout=log, stderr=log) as server:
        try:
            assert ready(server, port), f"{engine} does not start"
            asked(port, server.pid, 16, 1)
            first = asked(port, server.pid, prompt, 1)
            rest = asked(port, server.pid, 16, answer) - asked(port, server.pid, 16, 1)
            log.seek(0)
            weights = sum(float(size) for size in BUFFER.findall(log.read()))
        finally:
            server.kill()
    return Speed(prompt / first, (answer - 1) / max(rest, 1e-6), weights)


def estimated(gguf: Path, *, repack: bool) -> float:
    """MiB of weights in RAM."""
    launch = Launch(context=CONTEXT, repack=repacked_types() if repack else frozenset())
    return Estimator().estimate(gguf, launch).parts.host.weights / MIB


def compare(engine: Path, gguf: Path, prompt: int, answer: int, trials: int) -> None:
    best = {True: Speed(), False: Speed()}
    for _ in range(trials):
        for repack, found in best.items():
            one = trial(engine, gguf, prompt, answer, repack=repack)
            found.prompt, found.answer = max(found.prompt, one.prompt), max(found.answer, one.answer)
            found.weights = one.weights
    print(f"{gguf.name}, llama-server {probe(engine).version}")
    print(f"  {'':16}{'prompt, tokens/s':>18}{'answer, tokens/s':>18}{'weights, MiB':>14}{'estimated':>11}")
    for repack, found in best.items():
        name, size = f"repack: {str(repack).lower()}", estimated(gguf, repack=repack)
        print(f"  {name:16}{found.prompt:18.1f}{found.answer:18.1f}{found.weights:14.2f}{size:11.2f}")
    with_it, without = best[True], best[False]
    lost = f"{1 - without.prompt / with_it.prompt:.0%} of the prompt's and {1 - without.answer / with_it.answer:.0%}"
    print(f"  without it {lost} of the answer's speed are lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, action="append", help="a llama-server; may be given again")
    parser.add_argument("--gguf", type=Path, action="append", help="a model; may be given again; else SmolLM2")
    parser.add_argument("--shape", help="a model of this shape and zero weights, such as llama32-1b-q8_0")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--trials", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        files = given.gguf or [real_model(argparse.Namespace(shape=given.shape, gguf=None), Path(place))]
        assert None not in files, "there is no model: name one by --gguf"
        print(f"one core; prompts of {given.prompt} tokens, answers of {given.answer}")
        for engine in map(find, given.engine or [None]):
            for gguf in files:
                compare(engine, gguf.resolve(), given.prompt, given.answer, given.trials)


if __name__ == "__main__":
    main()
