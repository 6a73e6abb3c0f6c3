"""LoRA adapters: a small one with random weights, and one for every matrix of a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import synthetic

RANK = 4


def adapter(path: Path, embedding: int, strength: float = 0.3) -> Path:
    """An adapter of the first layer's queries, always the same; 0 of ``strength`` changes nothing."""
    queries: synthetic.Shape = ("blk.0.attn_q.weight", (embedding, embedding), "f32")
    return synthetic.write_random(path, *adapting("llama", [queries], RANK, "f32"), strength)


def adapting(
    arch: str, tensors: Iterable[synthetic.Shape], rank: int, kind: str = "f16"
) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    """Metadata and tensors of an adapter for every matrix of a model's layers."""
    metadata = {
        "general.architecture": arch,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    pairs: list[synthetic.Shape] = []
    for name, dims, _ in tensors:
        if name.startswith("blk.") and len(dims) == 2:
            pairs += [(f"{name}.lora_a", (dims[0], rank), kind), (f"{name}.lora_b", (rank, dims[1]), kind)]
    return metadata, pairs
