"""What bench/elastic.py compares: its setting, and each way to serve the agents, with the profiles of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_models import Model, size_of
from elastic_trace import Scale, Trace

GIB = 2**30
PADDING = 256
"""The fewest tokens of a step, to multiples of which llama-server rounds up."""


@dataclass(frozen=True)
class Setting:
    """The agents, their model, and the bytes that lmxd may use."""

    engine: Path
    model: Path
    gpu: bool
    device: int
    """Of the GPU, as NVML counts."""
    trace: Trace
    scale: Scale
    start: int
    larger: tuple[int, ...]
    """The steps between that and the whole context."""
    share: int
    """The tokens by which contexts grow that share one cache."""
    cache: tuple[int, ...]
    """The tokens of that cache, and of those that take its place when it is full."""
    idle: float
    alone: bool
    limit: int
    seed: int
    kill: float
    """Seconds between two, in the mean; 0: never."""
    squeeze: bool

    @property
    def agents(self) -> int:
        return len(self.trace.agents)

    @property
    def steps(self) -> tuple[int, ...]:
        return (*(self.scale.of(step) for step in (self.start, *self.larger)), self.scale.top)

    def names(self) -> list[str]:
        """The model that each agent asks for."""
        return [f"agent{n}" if self.alone else "model" for n in range(self.agents)]


@dataclass(frozen=True)
class Side:
    """One way to serve the trace. ``slots``, each of the first of ``steps``, are those of an instance."""

    name: str
    slots: int
    steps: tuple[int, ...]
    keys: dict[str, Any]
    """Of its profiles, beside those of all."""
    unified: bool = False

    @property
    def cells(self) -> int:
        """Tokens in all slots of an instance of the first step."""
        return self.slots * self.steps[0]

    def size(self, setting: Setting) -> int:
        """Bytes of that instance, by lmxd's estimate."""
        return size_of(Model("model", setting.model, self.steps[0], self.slots, setting.gpu, unified=self.unified))


def sides(setting: Setting) -> Iterator[Side]:
    """Every way that there is. Where each agent has a model of its own there is nobody to share a cache with."""
    fixed = static(setting, 1)
    while not setting.alone and fixed.slots < setting.agents:
        more = static(setting, fixed.slots + 1)
        if more.size(setting) > setting.limit:
            break
        fixed = more
    yield fixed
    start, *larger = setting.steps
    keys = {"context": "elastic", "elastic": {"start": start, "steps": larger}}
    yield Side("elastic", 1 if setting.alone else setting.agents, setting.steps, keys)
    if not setting.alone:
        yield unified(setting)


def static(setting: Setting, slots: int) -> Side:
    """Slots of the whole context."""
    return Side("static", slots, setting.steps[-1:], {})


def unified(setting: Setting) -> Side:
    """One cache for all, in shares; larger ones take its place when it is full."""
    share = max(PADDING, setting.scale.of(setting.share))
    first, *larger = (setting.scale.of(cells) for cells in setting.cache)
    elastic = {"start": share, "steps": larger} if larger else {"start": share}
    keys = {"context": "elastic", "kv_unified": True, "elastic": elastic}
    return Side("unified", -(-first // share), (share, setting.scale.top), keys, unified=True)


def config(setting: Setting, side: Side) -> dict[str, Any]:
    """lmxd's, for a side."""
    profile = {"path": str(setting.model), "context_length": setting.scale.top, "slots": side.slots}
    profile |= {"idle_timeout": setting.idle} | side.keys
    if not setting.gpu:
        profile["threads"] = 1  # more would wait for one another where instances share the cores
    return {
        "gpu": {"device": setting.device if setting.gpu else "host", "max_memory_gb": setting.limit / GIB},
        "engine": {"path": str(setting.engine), "load_timeout": 600},
        "models": dict.fromkeys(setting.names(), profile),
    }


def describe(setting: Setting, given: Sequence[Side]) -> None:
    """Print what is compared."""
    talks = list(setting.trace)
    sizes = sorted(talk.tokens for talk in talks)
    where = "on the GPU" if setting.gpu else f"in RAM, {os.cpu_count()} cores"
    print(f"{setting.agents} agents, {len(talks)} conversations, {setting.trace.answers} answers; seed {setting.seed}")
    outgrow = ", ".join(f"{sum(size > step for size in sizes)} of {step:,}" for step in setting.steps[:-1])
    print(f"conversations: median {statistics.median(sizes):,.0f} tokens, most {sizes[-1]:,}; that outgrow {outgrow}")
    print(f"{setting.model.name} {where}: lmxd may use {setting.limit / GIB:.2f} GiB")
    each = " for each agent" if setting.alone else ""
    for side in given:
        if side.unified:
            said = f"{side.slots} shares of {side.steps[0]:,} tokens in one cache"
        else:
            said = f"slots {side.slots}{each}, of {', then '.join(f'{step:,}' for step in side.steps)} tokens"
        print(f"{side.name}: {said}; at first {side.cells:,} cells, {side.size(setting) / GIB:.2f} GiB")
    if setting.alone:
        print("unified: left out, since each agent has a model of its own")
