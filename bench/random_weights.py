"""Model files of real shape whose weights are random, always the same: their answers depend on all that was read.

A file with zero weights has one answer to everything, so that a conversation that was carried wrongly answers as one
that was carried rightly. These need the disk and the time of a real model, and say nothing that anybody would read.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import synthetic
from shapes import parts

from lmxd.gguf.header import read_header

BLOCKS = 65_537
"""Blocks of quantized weights until they come again: a prime, so that no two rows of a matrix are the same."""
ALIGNMENT = 32
"""Bytes, of the data and of each tensor."""


def written_random(directory: Path, name: str) -> Path:
    """The file of a shape of ``f32``, ``q4_0``, ``q6_k`` and ``q8_0`` tensors, with a vocabulary. Norms are 1."""
    path = directory / f"{name}-random.gguf"
    metadata, tensors = synthetic.speaking(parts(name))
    metadata["tokenizer.ggml.tokens"] = [_whole(n, token) for n, token in enumerate(metadata["tokenizer.ggml.tokens"])]
    synthetic.write(path, metadata, tensors)
    drawn = {kind: _DRAWN[kind](random.Random(1)) for kind in {kind for _, _, kind in tensors} - {"f32"}}
    data = -(-len(synthetic.header(metadata, tensors)[0]) // ALIGNMENT) * ALIGNMENT
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
    with path.open("r+b") as file:
        for number, tensor in enumerate(header.tensors):
            file.seek(data + tensor.offset)
            if tensor.type.name == "f32":
                file.write(struct.pack("<f", 1.0) * (tensor.nbytes // 4))
                continue
            for piece in _repeated(drawn[tensor.type.name], tensor.nbytes, number * tensor.type.size * 4_099):
                file.write(piece)
    return path


def _whole(number: int, token: str) -> str:
    """A token that is a part of a character is another one: llama-server holds such parts back, with their numbers."""
    return token if token.isascii() else f"<|{number}|>"


def _repeated(drawn: bytes, size: int, begin: int) -> Iterator[bytes]:
    """``size`` bytes of it, again and again, from ``begin`` on."""
    at = begin % len(drawn)
    while size:
        piece = drawn[at : at + size]
        yield piece
        size -= len(piece)
        at = 0


def _q4_0(chance: random.Random) -> bytes:
    """The scale in 16 bits, then 32 weights of 4."""
    scale = struct.pack("<e", 0.02 / 4.6)
    return b"".join(scale + chance.randbytes(16) for _ in range(BLOCKS))


def _q8_0(chance: random.Random) -> bytes:
    """The scale in 16 bits, then 32 weights of a byte."""
    scale = struct.pack("<e", 0.02 / 74)
    return b"".join(scale + chance.randbytes(32) for _ in range(BLOCKS))


def _q6_k(chance: random.Random) -> bytes:
    """256 weights of 4 + 2 bits, 16 scales of a byte, then the scale in 16 bits."""
    scale = struct.pack("<e", 0.02 / (18.5 * 74))
    return b"".join(chance.randbytes(128 + 64 + 16) + scale for _ in range(BLOCKS))


_DRAWN = {"q4_0": _q4_0, "q8_0": _q8_0, "q6_k": _q6_k}
"""Blocks of each type whose weights have a standard deviation of 0.02, as those of real models do."""
