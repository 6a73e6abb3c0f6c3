"""Bytes of weights by place. Exact, to what llama-server prints.

Sources, llama.cpp build 11434: src/llama-model-loader.cpp:create_tensor, ggml-cuda.cu (row padding),
ggml/src/ggml-cpu/repack.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from lmxd.gguf.header import Tensor
from lmxd.gguf.launch import Launch, padded
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.placement import HOST, Placement, PlaceNumber

INPUTS: Final = ("token_embd.weight", "position_embd.", "token_types.", "per_layer_token_embd.", "masked_embd_")
"""Tensors that are looked up rather than multiplied. They always stay on the host."""

_OUTPUT: Final = "output.weight"
"""Multiplied with a few tokens only, so it is never copied to a device for a long prompt."""

_ALIGN: Final = 128
_HOST_ALIGN: Final = 32
"""Bytes that tensors are aligned to: in a buffer of CUDA, and on the host."""
_REPACKED_ROWS: Final = 8
"""Rows that the CPU's kernels take at once: a matrix of another number of rows is left as it is."""


@dataclass(slots=True)
class Weights:
    """The bytes of weights in one place.

    ``device``: with the padding of CUDA; ``plain``: without. ``spans``: the part of each file that a mapping covers,
    from the first to the last tensor. ``largest`` is the largest matrix.
    """

    device: int = 0
    plain: int = 0
    repacked: int = 0
    largest: int = 0
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, other: Weights) -> None:
        self.device += other.device
        self.plain += other.plain
        self.repacked += other.repacked
        self.largest = max(self.largest, other.largest)
        for part, (first, last) in other.spans.items():
            was = self.spans.get(part, (first, last))
            self.spans[part] = (min(first, was[0]), max(last, was[1]))

    def host(self, *, mmap: bool) -> int:
        """The bytes that it takes on the host."""
        mapped = sum(last - first for first, last in self.spans.values())
        return (mapped if mmap else self.plain) + self.repacked


def weights(model: Model, launch: Launch, placement: Placement) -> tuple[list[Weights], Weights]:
    """(what goes to each device, what stays on the host)."""
    devices, host = [Weights() for _ in range(placement.devices)], Weights()
    for layer, moved, group in _groups(model, launch):
        place = placement.of(layer) if moved is None else moved
        (host if place == HOST or not devices else devices[min(place, len(devices) - 1)]).add(group)
    if model.tied:
        embeddings = model.shapes["token_embd.weight"]
        if placement.output != HOST:
            devices[placement.output].add(Weights(device=cuda_bytes(embeddings)))
        elif embeddings.type.name in launch.repack:
            host.add(Weights(repacked=embeddings.nbytes))
    return devices, host


def _groups(model: Model, launch: Launch) -> Iterable[tuple[int | None, PlaceNumber | None, Weights]]:
    """(layer, place if it is not that of the layer, bytes)."""
    if not launch.overrides:
        for (layer, is_input), group in _by_layer(model, launch.repack, launch.mtp).items():
            yield layer, HOST if is_input else None, group
        return
    moved = mover(launch)
    for name, layer, is_input, size in _each(model, launch.repack, launch.mtp):
        yield layer, moved(name, HOST if is_input else None), size


def mover(launch: Launch) -> Callable[[str, PlaceNumber | None], PlaceNumber | None]:
    """A function from a tensor's name and usual place to the place where the first rule that it meets has it."""
    rules = [(re.compile(rule.pattern), HOST if rule.device is None else rule.device) for rule in launch.overrides]
    return lambda name, usual: next((place for pattern, place in rules if pattern.search(name)), usual)


_remembered: WeakKeyDictionary[Model, dict[object, Mapping[tuple[int | None, bool], Weights]]] = WeakKeyDictionary()
_one_by_one: WeakKeyDictionary[Model, dict[object, list[tuple[str, int | None, bool, Weights]]]] = WeakKeyDictionary()


def _each(model: Model, repack: frozenset[str], mtp: bool) -> list[tuple[str, int | None, bool, Weights]]:
    """The tensors of a model, computed once: (name, layer, whether it is an input, bytes)."""
    known = _one_by_one.setdefault(model, {})
    if (repack, mtp) not in known:
        known[(repack, mtp)] = [
            (tensor.name, layer_of(tensor), _is_input(tensor), _one(tensor, repack)) for tensor in _tensors(model, mtp)
        ]
    return known[(repack, mtp)]


def _by_layer(model: Model, repack: frozenset[str], mtp: bool) -> Mapping[tuple[int | None, bool], Weights]:
    """Tensors of a layer added up, once for a model: (layer, whether they are inputs) -> their bytes."""
    known = _remembered.setdefault(model, {})
    if (repack, mtp) not in known:
        groups: dict[tuple[int | None, bool], Weights] = {}
        for _, layer, is_input, size in _each(model, repack, mtp):
            groups.setdefault((layer, is_input), Weights()).add(size)
        known[(repack, mtp)] = groups
    return known[(repack, mtp)]


def _tensors(model: Model, mtp: bool) -> Iterable[Tensor]:
    return (*model.tensors, *model.skipped) if mtp else model.tensors


def _one(tensor: Tensor, repack: frozenset[str]) -> Weights:
    matrix = len(tensor.shape) > 1
    if _is_repacked(tensor, repack):
        return Weights(device=cuda_bytes(tensor), repacked=padded(tensor.nbytes, _HOST_ALIGN), largest=tensor.nbytes)
    end = tensor.offset + tensor.nbytes
    return Weights(
        device=cuda_bytes(tensor),
        plain=padded(tensor.nbytes, _HOST_ALIGN),
        largest=tensor.nbytes if matrix and not _is_input(tensor) and tensor.name != _OUTPUT else 0,
        spans={tensor.part: (tensor.offset, end)},
    )


def _is_input(tensor: Tensor) -> bool:
    return tensor.name.startswith(INPUTS)


def _is_repacked(tensor: Tensor, repack: frozenset[str]) -> bool:
    """Matrices of experts, and two-dimensional ones, if they are multiplied with."""
    if tensor.type.name not in repack or _is_input(tensor) or len(tensor.shape) < 2:
        return False
    many = len(tensor.shape) > 2
    return tensor.shape[1] % _REPACKED_ROWS == 0 and (not many or "_exps." in tensor.name)


def cuda_bytes(tensor: Tensor) -> int:
    """Data, rows of quantized matrices padded to 512 elements, rounded up to the buffer's alignment."""
    size, short = tensor.nbytes, tensor.shape[0] % 512
    if tensor.type.quantized and short:
        size += (512 - short) // tensor.type.block * tensor.type.size
    return padded(size, _ALIGN)
