"""Offloads: how much of a model is on the GPU, from all of it down to one layer. The rest runs in RAM.

Experts leave the GPU before layers do: they are most of a layer's bytes, and a token reads few of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.overrides import experts_in_ram

_EXPERTS = "_exps."


@dataclass(frozen=True, slots=True)
class Offload:
    """One way to divide a model between a GPU and RAM.

    ``layers`` go to the GPU, the output counted first, as ``-ngl`` has it; of the first ``experts_in_ram`` layers the
    experts stay in RAM. ``whole``: layers that are on the GPU with all they have.
    """

    layers: int
    experts_in_ram: int
    whole: int


def divided(launch: Launch, layers: int, experts: int) -> Launch:
    """A launch with so many layers on the GPU, and the experts of so many in RAM."""
    rules = (experts_in_ram(experts),) if experts else ()
    return replace(launch, gpu_layers=layers, overrides=(*launch.overrides, *rules))


def offloads(model: Model, launch: Launch) -> tuple[Offload, ...]:
    """The ways to divide a launch, each with less on the GPU than the one before; the first is the launch as it is."""
    count = model.all_layers + 1
    most = count if launch.gpu_layers is None else min(count, launch.gpu_layers)
    layers = {n for t in model.tensors if _EXPERTS in t.name and (n := layer_of(t)) is not None and n >= count - most}
    kept = sorted(layers - _experts_in_ram(model, launch))
    return tuple(_offloads(most, most - len(layers) + len(kept), kept))


def _offloads(most: int, whole: int, experts: list[int]) -> Iterator[Offload]:
    """``experts``: the layers that have some on the GPU."""
    yield Offload(most, 0, whole)
    for layer in experts:
        whole -= 1
        yield Offload(most, layer + 1, whole)
    in_ram = experts[-1] + 1 if experts else 0
    for layers in range(most - 1, 0, -1):
        yield Offload(layers, in_ram, min(whole, layers))


def _experts_in_ram(model: Model, launch: Launch) -> set[int | None]:
    """The layers whose experts a launch keeps in RAM anyway."""
    rules = [re.compile(rule.pattern) for rule in launch.overrides if rule.device is None]
    return {layer_of(t) for t in model.tensors if _EXPERTS in t.name and any(rule.search(t.name) for rule in rules)}
