"""What bench/data holds: shapes, and what llama-server printed for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import synthetic

sys.path.append(str(Path(__file__).parent.parent / "bench"))

from shapes import DATA, shapes

__all__ = ["DATA", "shape", "uncovered"]


def shape(name: str) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    return shapes()[name]


def uncovered() -> tuple[dict[str, Any], list[synthetic.Shape]]:
    """A model that llama-server loads and the closed form does not cover: one that speaks, built like qwen3vl."""
    metadata, tensors = shape("qwen3vl@small")
    renamed = {key.replace("qwen3vl.", "qwen3tts."): value for key, value in metadata.items()}
    return renamed | {"general.architecture": "qwen3tts"}, tensors
