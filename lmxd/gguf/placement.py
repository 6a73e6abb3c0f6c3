"""Places the layers of a model on devices.

Source, llama.cpp build 11434: src/llama-model.cpp:load_tensors. The output is the layer after the last;
``-ngl N`` counts it first. Split points are computed in 32-bit floats there, and so they are here.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, TypeAlias

from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

PlaceNumber: TypeAlias = int
HOST: Final[PlaceNumber] = -1
"""Devices are numbered from 0."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of each layer: ``layers[n]`` is that of layer n, the last entry that of the output.

    Layers for drafting are between the others and the output, as in the file.
    """

    layers: tuple[PlaceNumber, ...]
    devices: int

    @property
    def output(self) -> PlaceNumber:
        return self.layers[-1]

    def of(self, layer: int | None) -> PlaceNumber:
        return self.output if layer is None else self.layers[layer]

    @property
    def whole(self) -> bool:
        """Returns whether nothing was left on the host."""
        return HOST not in self.layers


def placed(model: Model, launch: Launch, devices: int) -> Placement:
    """The places of the layers of a launch on so many devices; 0 devices: all on the host."""
    count = model.all_layers + 1
    asked = count if launch.gpu_layers is None else launch.gpu_layers
    start, active = max(count - asked, 0), min(asked, count) if devices else 0
    points = _split_points(launch.split, devices)

    def place(layer: int) -> PlaceNumber:
        if layer < start or layer - start >= active:
            return HOST
        return bisect_right(points, _f32((layer - start) / active))

    return Placement(tuple(place(layer) for layer in range(count)), devices)


def _split_points(split: tuple[float, ...], devices: int) -> list[float]:
    shares = [*split, *(0.0,) * devices][:devices] if any(split) else [1.0] * devices
    points, total = [], 0.0
    for share in shares:
        total = _f32(total + share)
        points.append(total)
    return [_f32(point / total) for point in points[:-1]] if total else []


def _f32(x: float) -> float:
    found: float = struct.unpack("f", struct.pack("f", x))[0]
    return found
