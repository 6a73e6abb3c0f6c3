"""KV cache and recurrent state: bytes per layer. Exact.

Sources, llama.cpp build 11434: src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp,
src/llama-memory-recurrent.cpp.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lmxd.gguf.architectures import COMPRESSED
from lmxd.gguf.compressed import compressed_bytes, making_bytes
from lmxd.gguf.launch import Launch, padded
from lmxd.gguf.model import Model
from lmxd.gguf.types import CACHE_TYPES, TensorType

_ROW: Final = 512
"""Elements that CUDA pads a quantized row to (MATRIX_ROW_PADDING)."""


def kv_bytes(model: Model, launch: Launch, layer: int, *, flash: bool, on_gpu: bool) -> int:
    """The bytes that a layer caches. Without flash attention V is transposed, and each row as wide as the widest.

    CUDA pads a quantized cache's last row, as it does with weights.
    """
    if not model.caches[layer] or not model.kv_heads[layer]:
        return 0
    if model.arch in COMPRESSED:
        launch = replace(launch, unified=False)
    rows = launch.streams * cells(model, launch, sliding=model.slides[layer])
    kind = CACHE_TYPES[launch.cache_type_k]
    k = cached(kind, rows, model.key_length(layer) * model.kv_heads[layer], on_gpu)
    if model.arch in COMPRESSED:
        return k + compressed_bytes(model, launch, layer)
    indexed = launch.streams * launch.cells if model.indexer.layers[layer] else 0
    k += cached(kind, indexed, model.indexer.key, on_gpu)
    if model.mla:
        return k
    width = model.value_length(layer) * model.kv_heads[layer] if flash else model.widest_value
    v = CACHE_TYPES[launch.cache_type_v]
    return k + cached(v, rows, width, on_gpu) + cached(v, indexed, model.value, on_gpu)


def state_bytes(model: Model, launch: Launch, layer: int) -> int:
    """The recurrent state of a layer, in f32 and one for each slot, whatever the context."""
    if model.arch in COMPRESSED:
        return making_bytes(model, launch, layer)
    if not model.states[layer]:
        return 0
    return 4 * launch.slots * (1 + rolled_back(model, launch)) * model.state_width


def rolled_back(model: Model, launch: Launch) -> int:
    """States that a slot keeps beside its own, to go back to when what its own layers drafted is refused."""
    return launch.drafted if launch.mtp and model.rolls_back else 0


def cells(model: Model, launch: Launch, *, sliding: bool) -> int:
    """KV cells of one stream; a sliding layer keeps its window and a micro-batch."""
    if not sliding or launch.swa_full:
        return launch.cells
    slots = launch.slots if launch.unified else 1
    return padded(min(launch.cells, model.window * slots + launch.ubatch_asked))


def cached(kind: TensorType, rows: int, width: int, on_gpu: bool) -> int:
    """The bytes of so many rows of a cache, each of ``width`` elements."""
    if not rows:
        return 0
    padding = -width % _ROW if kind.quantized and on_gpu else 0
    return rows * _row(kind, width) + _row(kind, padding)


def _row(kind: TensorType, n: int) -> int:
    return -(-n // kind.block) * kind.size
