"""A LoRA adapter with random weights for a model of Llama's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import synthetic

RANK = 4


def adapter(path: Path, embedding: int, strength: float = 0.3) -> Path:
    """An adapter of the first layer's queries, always the same; 0 of ``strength`` changes nothing."""
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(RANK),
    }
    shapes: list[synthetic.Shape] = [
        ("blk.0.attn_q.weight.lora_a", (embedding, RANK), "f32"),
        ("blk.0.attn_q.weight.lora_b", (RANK, embedding), "f32"),
    ]
    return synthetic.write_random(path, metadata, shapes, strength)
