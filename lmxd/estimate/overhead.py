"""Bytes of a process beyond llama-server's own buffers: the CUDA context, and what its kernels fetch as they go.

Measured on an H100 (driver 580, CUDA builds of 11434; 133 launches of 20 models, bench/data/h100.jsonl): 587 to
594 MiB when ready. Then the first long prompt fetches the activations in q8_1, once 96 MiB if cuBLAS is
needed (matrices in f32 or f16, or no flash attention), and without flash attention the scores of a layer in f16.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from lmxd.estimate.learned import Card, Learned
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

MIB: Final = 2**20
CONTEXT: Final = 596 * MIB
"""Of a card that nothing is known of: what the largest that was measured takes."""

CONTEXT_ERROR: Final = 8 * MIB
UNKNOWN_ERROR: Final = 480 * MIB
"""Smaller cards were reported to take as little as 107 MiB."""

_MEASURED: Final = {"NVIDIA H100 80GB HBM3": CONTEXT}

HOST: Final = 56 * MIB
HOST_PER_TOKEN: Final = 256
"""Bytes that the vocabulary takes in the process, per entry."""

_CUBLAS: Final = 96 * MIB
_CUBLAS_WITHOUT_FLASH: Final = 56 * MIB
_POOL: Final = 6 * MIB
_PARTIAL: Final = 8 * MIB
_Q8_1: Final = 36 / 32
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


def context(card: Card, learned: Learned) -> tuple[int, int]:
    """(bytes, plus or minus) of a process's context on a card: as it was learned, else the prior of its name."""
    if (seen := learned.context(card)) is not None:
        return seen
    if card.name in _MEASURED:
        return _MEASURED[card.name], CONTEXT_ERROR
    return CONTEXT, UNKNOWN_ERROR


def fetched(model: Model, launch: Launch, *, flash: bool, whole: bool) -> int:
    """The bytes that the first long prompts add on a device."""
    found = _POOL + int(_Q8_1 * launch.tokens * _widest(model)) + (0 if whole else _PARTIAL)
    if not flash and attends(model):
        return found + _CUBLAS_WITHOUT_FLASH + scores(model, launch)
    return found + (_CUBLAS if _needs_cublas(model) else 0)


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
def _needs_cublas(model: Model) -> bool:
    return any(
        len(t.shape) > 1 and t.type.name in _FLOATS and not any(part in t.name for part in _NOT_MULTIPLIED)
        for t in model.tensors
    )
