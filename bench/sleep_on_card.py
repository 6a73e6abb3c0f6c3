"""What a swap costs by each way to give up a card: vLLM asleep, vLLM ended, llama.cpp suspended, llama.cpp ended.

bench/sleep_on_card.py --vllm PATH [--rounds N] [--place DIR]: models with the shape of Llama 3.1 8B in 16 bits, on a
card of which lmxd may use so much that one of them has room, or another model. Each is asked, loses the card to the
other model, and is asked the same again: seconds to the first token of that answer, in rotating order, and what the
card and RAM hold of it meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines_on_card import MIB, World
from gateway_process import Gateway
from hf_directory import LLAMA_8B, hollow_directory
from lmxd_process import Lmxd
from multi_gpu import Findings
from shapes import written

ROOM_GB, TOKENS, WORDS = 24, 16384, 300
"""GiB of the card; of each model's context; of the prompt, each of some seven tokens for vLLM."""


@dataclass
class Swaps:
    """What was seen of one way."""

    first: float = 0.0
    """Seconds, from the start of all."""
    again: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    """Seconds to the other model's first token, which has to wait for the room."""
    held: dict[str, int] = field(default_factory=dict)
    """Bytes of each device while the other has the card."""


def models(place: Path, vllm: Path) -> dict[str, dict[str, Any]]:
    """A profile for each way, and the other model."""
    path = hollow_directory(place / "llama", LLAMA_8B)
    by_vllm = {"engine": "vllm", "program": str(vllm), "path": str(path), "context_length": TOKENS, "slots": 8}
    by_vllm |= {"kv_tokens": 2 * TOKENS, "engine_flags": ["--load-format", "dummy"]}
    gguf = {"path": str(written(place, "llama31-8b-f16", speaking=True)), "context_length": TOKENS}
    return {
        "vllm-asleep": by_vllm | {"sleep": True},
        "vllm-ended": by_vllm,
        "llama.cpp-suspended": gguf | {"suspend": True},
        "llama.cpp-ended": gguf,
        "other": {"path": str(written(place, "gemma3-12b-q4_0", speaking=True)), "context_length": 4096},
    }


@contextmanager
def world(given: argparse.Namespace, place: Path) -> Iterator[World]:
    (place / "cache").mkdir()
    config = {
        "gpu": {"devices": [{"device": 0, "max_memory_gb": ROOM_GB}, {"device": "host", "max_memory_gb": 64}]},
        "models": models(place, given.vllm),
        "engine": {
            "load_timeout": 600,
            "prompt_cache_gb": 16,
            "environment": {"XDG_CACHE_HOME": str(place / "cache")},
        },
    }
    with Lmxd(place, config) as lmxd, Gateway(lmxd, wait=600) as gateway:
        yield World(lmxd, gateway, Findings(), WORDS)


def held(here: World, name: str) -> dict[str, int]:
    """Bytes of each device that the instances of a model have."""
    here.lmxd.json("devices")  # a new look
    found: dict[str, int] = {}
    for instance in here.lmxd.instances().values():
        if instance.model == name:
            for device, size in instance.measured.items():
                found[device] = found.get(device, 0) + size
    return found


def swap(here: World, name: str, seen: Swaps) -> None:
    """The model, the other, and the model again."""
    first = here.ask(name, WORDS)
    seen.first = seen.first or first
    seen.away.append(here.ask("other"))
    seen.held = held(here, name)
    seen.again.append(here.ask(name, WORDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, required=True, help="its program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", help="a directory for models and caches")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.place) as name, world(given, Path(name)) as here:
        ways = [name for name in here.lmxd.config()["models"] if name != "other"]
        found = {name: Swaps() for name in ways}
        for round in range(given.rounds):
            for way in ways[round % len(ways) :] + ways[: round % len(ways)]:
                seen = found[way]
                swap(here, way, seen)
                print(f"round {round + 1}: {way}, away {seen.away[-1]:.2f} s, again {seen.again[-1]:.2f} s", flush=True)
    print(f"{'':20}{'first, s':>9}{'again, s':>9}{'slowest':>9}{'away, s':>9}  held meanwhile, MiB")
    for way, seen in found.items():
        line = f"{way:20}{seen.first:9.2f}{statistics.median(seen.again):9.2f}{max(seen.again):9.2f}"
        kept = ", ".join(f"{device} {size / MIB:,.0f}" for device, size in sorted(seen.held.items())) or "nothing"
        print(f"{line}{statistics.median(seen.away):9.2f}  {kept}")


if __name__ == "__main__":
    main()
