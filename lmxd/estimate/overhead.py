"""Bytes of a process beyond its buffers and its context: what its kernels fetch as they go, and what it takes of RAM.

Measured on an H100 (driver 580, CUDA builds of 11434; 133 launches of 20 models, bench/data/h100.jsonl): the first
long prompt fetches the activations in q8_1, once 96 MiB if cuBLAS is needed (matrices in f32 or f16, or no flash
attention), and without flash attention the scores of a layer in f16. Other backends have other kernels: of those only
a doubt is known.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Final

from lmxd.estimate.backends import Backend
from lmxd.gguf.header import Tensor
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model, layer_of

MIB: Final = 2**20
HOST: Final = 56 * MIB
HOST_PER_TOKEN: Final = 256
"""Bytes that the vocabulary takes in the process, per entry."""

CUBLAS: Final = 96 * MIB
_CUBLAS_WITHOUT_FLASH: Final = 56 * MIB
_POOL: Final = 6 * MIB
_PARTIAL: Final = 8 * MIB
_Q8_1: Final = 36 / 32
_F16: Final = 2
"""Bytes per float."""

_FLOATS: Final = frozenset({"f32", "f16", "bf16"})
_NOT_MULTIPLIED: Final = (
    "conv1d",
    "shortconv.conv.",
    ".ssm_a",
    ".ssm_d.",
    "_norm",
    "rope_",
    "time_mix_lerp",
    ".scale",
    "_embd.",
)


def fetched(model: Model, launch: Launch, *, flash: bool, whole: bool, floats: bool = False) -> int:
    """The bytes that the first long prompts add on a device. ``floats``: what goes with the model needs cuBLAS."""
    found = _pool(model, launch) + (0 if whole else _PARTIAL)
    if not flash and attends(model):
        return found + _CUBLAS_WITHOUT_FLASH + scores(model, launch)
    return found + (CUBLAS if floats or needs_cublas(model) else 0)


def fetched_by_drafting(model: Model, launch: Launch, *, flash: bool) -> int:
    """The bytes that the context of a model's own drafting layers adds beside: its pool, and scores in it."""
    return _pool(model, launch) + (0 if flash else scores(model, launch))


def _pool(model: Model, launch: Launch) -> int:
    return _POOL + int(_Q8_1 * launch.tokens * _widest(model))


def doubt(model: Model, launch: Launch, backend: Backend, *, flash: bool, whole: bool) -> int:
    """The bytes by which another backend's buffers may differ from those of CUDA's kernels, as far as its code says.

    ROCm's kernels are CUDA's, but hipBLAS is not cuBLAS. Vulkan also has the activations in f16. SYCL multiplies a
    matrix of long prompts as a copy in f16, and may have no flash attention where CUDA has.
    """
    if backend is Backend.CUDA:
        return 0
    found = max(fetched(model, launch, flash=flash, whole=whole), CUBLAS)
    if backend is Backend.VULKAN:
        return found + _F16 * launch.tokens * _widest(model)
    if backend is Backend.SYCL:
        return found + _F16 * _largest(model) + (2 * scores(model, launch) if flash and attends(model) else 0)
    return found


def attends(model: Model) -> bool:
    """Returns whether any layer looks at other tokens: all models do, but those that only keep a state."""
    return any(model.caches) or not any(model.states)


def scores(model: Model, launch: Launch) -> int:
    """Bytes of every head's scores of every cell in f16, for a micro-batch."""
    return 2 * max(model.heads, default=0) * launch.cells * launch.tokens


@lru_cache(64)
def _widest(model: Model) -> int:
    """The widest input of a quantized matrix: floats per token."""
    widest = 0
    for tensor in model.tensors:
        if len(tensor.shape) > 1 and tensor.type.quantized:
            many = model.experts_used if "_exps." in tensor.name else 1
            widest = max(widest, tensor.shape[0] * many)
    return widest


@lru_cache(64)
def _largest(model: Model) -> int:
    """The largest quantized matrix of a layer: floats."""
    return max((prod(t.shape[:2]) for t in model.tensors if len(t.shape) > 1 and layer_of(t) is not None), default=0)


@lru_cache(64)
def needs_cublas(model: Model) -> bool:
    """Whether it has matrices in floats."""
    return any(map(is_float_matrix, model.tensors))


def is_float_matrix(tensor: Tensor) -> bool:
    """Whether a tensor is multiplied by cuBLAS rather than by llama.cpp's own kernels."""
    floats = len(tensor.shape) > 1 and tensor.type.name in _FLOATS
    return floats and not any(part in tensor.name for part in _NOT_MULTIPLIED)
