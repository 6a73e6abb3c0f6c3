"""Model files of real shape, zero weights and a vocabulary of our own: bench/data/shapes.json.xz.

The small ones (``@small``: 8 layers, 1,024 wide) were found by asking llama-server of build 11434 which tensors
each architecture has; the others have the dimensions of well-known models. A file costs a few kilobytes of disk.
"""

from __future__ import annotations

import json
import lzma
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic

DATA = Path(__file__).parent / "data"
Parts = tuple[dict[str, Any], list[synthetic.Shape]]


@cache
def shapes() -> dict[str, Parts]:
    """Name -> metadata and tensors."""
    with lzma.open(DATA / "shapes.json.xz", "rt") as file:
        read = json.load(file)
    return {
        name: (parts["metadata"], [(tensor, tuple(shape), kind) for tensor, shape, kind in parts["tensors"]])
        for name, parts in read.items()
    }


def parts(name: str) -> Parts:
    """Those of a shape; of ``llama31-8b-f16``, say, those of ``llama31-8b-q4_0`` with matrices of 16 bits."""
    if name in shapes() or not name.endswith("-f16"):
        return shapes()[name]
    metadata, tensors = next(it for other, it in shapes().items() if other.startswith(name.removesuffix("f16")))
    return metadata, [(tensor, shape, kind if kind == "f32" else "f16") for tensor, shape, kind in tensors]


def written(directory: Path, name: str, *, speaking: bool = False) -> Path:
    """The file of a shape; with a vocabulary if it is to be prompted."""
    path = directory / f"{name}.gguf"
    if not path.exists():
        metadata, tensors = synthetic.speaking(parts(name)) if speaking else parts(name)
        synthetic.write(path, metadata | ({} if speaking else {"tokenizer.ggml.model": "none"}), tensors)
    return path
