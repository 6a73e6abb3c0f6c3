"""A real model of fewer layers: the first of its own. An answer makes no sense, and costs a quarter.

It is for tests of where tokens go, not of what they say. Answers to several prompts that end in the same words are as
often different as those of the whole model are.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from lmxd.gguf.header import read_header
from lmxd.gguf.types import TENSOR_TYPES

LAYERS: Final = 6
"""Of fewer, answers to different prompts are often the same. Without the first ones many are no text."""
_NUMBERS: Final = {kind.name: number for number, kind in TENSOR_TYPES.items()}


def shallow(model: Path, target: Path) -> Path:
    """Write the first layers of a Llama model, in one file, aligned to 32 bytes as usual."""
    raw = model.read_bytes()
    with model.open("rb") as file:
        header = read_header(file, len(raw))
    kept = [t for t in header.tensors if not t.name.startswith("blk.") or int(t.name.split(".")[1]) < LAYERS]
    begin = header.size - max(t.offset + t.nbytes for t in header.tensors)
    table, data = bytearray(), bytearray()
    for tensor in kept:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        table += _string(tensor.name) + shape + struct.pack("<IQ", _NUMBERS[tensor.type.name], len(data))
        at = begin + tensor.offset
        data += raw[at : at + tensor.nbytes] + bytes(-tensor.nbytes % 32)
    metadata = raw[: min(raw.index(_string(t.name)) for t in header.tensors)]
    head = _counted(metadata, len(kept)) + table
    target.write_bytes(head + bytes(-len(head) % 32) + data)
    return target


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _counted(metadata: bytes, tensors: int) -> bytes:
    """The metadata of so many tensors."""
    key = _string("llama.block_count")
    at = metadata.index(key) + len(key) + 4
    counted = metadata[:8] + struct.pack("<Q", tensors) + metadata[16:at]
    return counted + struct.pack("<I", LAYERS) + metadata[at + 4 :]
