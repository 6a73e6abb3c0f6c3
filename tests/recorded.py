"""What bench/data holds: shapes, and what llama-server printed for them."""

from __future__ import annotations

import json
import lzma
import sys
from functools import cache
from pathlib import Path
from typing import Any

import synthetic

from lmxd.gguf.facts import Unsupported
from lmxd.gguf.model import Model

sys.path.append(str(Path(__file__).parent.parent / "bench"))

from shapes import DATA, shapes

__all__ = ["DATA", "REPACKED", "covered", "loads", "named", "shape", "uncovered"]

REPACKED = frozenset({"q4_0", "q4_k", "iq4_nl", "mxfp4", "q2_k"})
"""The types of weights that the CPU rearranges on which the loads were recorded."""


def shape(name: str) -> tuple[dict[str, Any], list[synthetic.Shape]]:
    return shapes()[name]


@cache
def named(name: str) -> Model:
    """The model of a shape. Unsupported if no closed form covers it."""
    return synthetic.model(shape(name))


@cache
def loads() -> dict[str, list[dict[str, Any]]]:
    """Model -> its loads by build 11434: ``flags``, ``cards``, and MiB of each of the ``buffers`` that it printed."""
    found: dict[str, list[dict[str, Any]]] = {}
    with lzma.open(DATA / "buffers_11434.jsonl.xz", "rt") as file:
        for load in map(json.loads, file):
            found.setdefault(load["model"], []).append(load)
    return found


@cache
def covered() -> list[str]:
    """The models of these loads that a closed form covers."""
    return [name for name in loads() if _is_covered(name)]


def _is_covered(name: str) -> bool:
    try:
        named(name)
    except Unsupported:
        return False
    return True


def uncovered() -> tuple[dict[str, Any], list[synthetic.Shape]]:
    """A model that llama-server loads and the closed form does not cover: one that speaks, built like qwen3vl."""
    metadata, tensors = shape("qwen3vl@small")
    renamed = {key.replace("qwen3vl.", "qwen3tts."): value for key, value in metadata.items()}
    return renamed | {"general.architecture": "qwen3tts"}, tensors
