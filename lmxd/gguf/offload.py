"""Offloads: how much of a model is on the GPU, from all of it down to one layer. The rest runs in RAM.

Matrices leave the GPU one by one: first those of experts, which are most of a layer's bytes, and of which a token reads
few; then the feed-forward matrices of a layer, and the layer with its cache. llama-server's own ``--fit`` does alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model
from lmxd.gguf.overrides import Override, stays_in_ram

_MATRICES: Final = ("down", "gate", "gate_up", "up")
"""Matrices of a layer in the order in which they leave the GPU."""
_EXPERTS: Final = "_(ch|)exps"
_DENSE: Final = r"\."
_NAME: Final = re.compile(rf"blk\.(\d+)\.ffn_({'|'.join(_MATRICES)})(?:({_EXPERTS})|{_DENSE})")


@dataclass(frozen=True, slots=True)
class Offload:
    """One way to divide a model between a GPU and RAM.

    ``layers`` go to the GPU, the output counted first, as ``-ngl`` has it; of these, the tensors whose names have the
    pattern ``in_ram`` stay in RAM: those of ``experts`` layers. ``whole``: layers that are on the GPU with all of it.
    """

    layers: int
    in_ram: str
    experts: int
    whole: int


def divided(launch: Launch, layers: int, in_ram: str) -> Launch:
    """A launch with so many layers on the GPU, but for the tensors whose names have a pattern (none if empty)."""
    rules = (Override(in_ram),) if in_ram else ()
    return replace(launch, gpu_layers=layers, overrides=(*launch.overrides, *rules))


def offloads(model: Model, launch: Launch) -> tuple[Offload, ...]:
    """The ways to divide a launch, each with less on the GPU than the one before; the first is the launch as it is."""
    count = model.all_layers + 1
    most = count if launch.gpu_layers is None else min(count, launch.gpu_layers)
    in_ram = stays_in_ram(launch.overrides)
    dense: dict[int, set[str]] = {}
    experts: dict[int, set[str]] = {}
    gone = set()
    for name in (tensor.name for tensor in model.tensors):
        found = _NAME.match(name)
        if found is None or (layer := int(found[1])) < count - most:
            continue
        if in_ram(name):
            gone.add(layer)
        else:
            (experts if found[3] else dense).setdefault(layer, set()).add(found[2])
    return tuple(_offloads(count, most, most - len(gone), experts, dense))


_Matrices = Mapping[int, Collection[str]]
"""Of each layer that has some on the GPU."""


def _offloads(count: int, most: int, whole: int, experts: _Matrices, dense: _Matrices) -> Iterator[Offload]:
    """``whole``: layers that are whole at first."""
    yield Offload(most, "", 0, whole)
    moved: list[str] = []
    for n, layer in enumerate(sorted(experts)):
        whole -= 1
        for part in _parts(layer, experts[layer], _EXPERTS):
            yield Offload(most, "|".join((*moved, part)), n + 1, whole)
        moved = [_pattern("|".join(map(str, sorted(experts)[: n + 1])), _MATRICES, _EXPERTS)]
    for layers in range(most, 1, -1):
        whole = min(whole, layers - 1)
        for part in _parts(count - layers, dense.get(count - layers, ()), _DENSE):
            yield Offload(layers, "|".join((*moved, part)), len(experts), whole)
        yield Offload(layers - 1, "".join(moved), len(experts), whole)


def _parts(layer: int, there: Collection[str], kind: str) -> Iterator[str]:
    """Patterns of the matrices that a layer has, each with those before it."""
    matrices = [matrix for matrix in _MATRICES if matrix in there]
    return (_pattern(str(layer), matrices[: n + 1], kind) for n in range(len(matrices)))


def _pattern(layers: str, matrices: Collection[str], kind: str) -> str:
    return rf"blk\.({layers})\.ffn_({'|'.join(matrices)}){kind}"
