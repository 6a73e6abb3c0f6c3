"""Caches that hold one row for several tokens, beside a window of single ones: deepseek4.

Source, llama.cpp build 11434: src/llama-kv-cache-dsv4.cpp. Slots never share them.
"""

from __future__ import annotations

from typing import Final

from lmxd.gguf.launch import Launch, padded
from lmxd.gguf.model import Model
from lmxd.gguf.types import CACHE_TYPES

_FINE: Final = 4
"""Tokens of a row of which the indexer has a key, too; two rows are always in the making."""


def rows(launch: Launch, ratio: int) -> int:
    """Rows of one slot that each stand for ``ratio`` tokens."""
    return padded(-(-launch.cells // ratio))


def compressed_bytes(model: Model, launch: Launch, layer: int) -> int:
    """The bytes of a layer's rows, all slots together."""
    ratio = model.ratios[layer]
    if not ratio:
        return 0
    kind = CACHE_TYPES[launch.cache_type_k]
    width = model.key * model.kv_heads[layer] + (model.indexer.key if ratio == _FINE else 0)
    return launch.slots * rows(launch, ratio) * (-(-width // kind.block) * kind.size)


def making_bytes(model: Model, launch: Launch, layer: int) -> int:
    """The rows that are in the making, and their scores, in f32."""
    ratio = model.ratios[layer]
    if not ratio:
        return 0
    floats = 4 * ratio * (model.key + model.indexer.key) if ratio == _FINE else ratio * model.key
    return 2 * 4 * launch.slots * floats
