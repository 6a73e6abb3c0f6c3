"""A projector as llava's CLIP has it: with random weights it sees, with holes in their place it takes as many bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import synthetic


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """The sizes of an image encoder; by default so small that a test can compute with it."""

    width: int = 64
    inner: int = 128
    blocks: int = 2
    heads: int = 4
    image: int = 56
    patch: int = 14

    def metadata(self) -> dict[str, Any]:
        return {
            "general.architecture": "clip",
            "general.type": "mmproj",
            "clip.has_vision_encoder": True,
            "clip.projector_type": "mlp",
            "clip.use_gelu": True,
            "clip.vision.image_size": self.image,
            "clip.vision.patch_size": self.patch,
            "clip.vision.embedding_length": self.width,
            "clip.vision.feed_forward_length": self.inner,
            "clip.vision.block_count": self.blocks,
            "clip.vision.projection_dim": self.width,
            "clip.vision.attention.head_count": self.heads,
            "clip.vision.attention.layer_norm_epsilon": 1e-5,
            "clip.vision.image_mean": [0.48, 0.46, 0.41],
            "clip.vision.image_std": [0.27, 0.26, 0.28],
        }

    def tensors(self, embedding: int, kind: str = "f32") -> Iterator[synthetic.Shape]:
        """The tensors beside a model of that embedding length, matrices of ``kind``."""
        width, inner = self.width, self.inner
        yield "v.class_embd", (width,), "f32"
        yield "v.patch_embd.weight", (self.patch, self.patch, 3, width), kind
        yield "v.position_embd.weight", (width, (self.image // self.patch) ** 2 + 1), "f32"
        blocks = range(self.blocks)
        for norm in ("v.pre_ln", "v.post_ln", *(f"v.blk.{n}.ln{m}" for n in blocks for m in (1, 2))):
            yield from _with_bias(norm, (width,), "f32")
        for block in blocks:
            for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
                yield from _with_bias(f"v.blk.{block}.{name}", (width, width), kind)
            yield from _with_bias(f"v.blk.{block}.ffn_up", (width, inner), kind)
            yield from _with_bias(f"v.blk.{block}.ffn_down", (inner, width), kind)
        yield from _with_bias("mm.0", (width, embedding), kind)
        yield from _with_bias("mm.2", (embedding, embedding), kind)


def _with_bias(name: str, shape: tuple[int, ...], kind: str) -> Iterator[synthetic.Shape]:
    yield f"{name}.weight", shape, kind
    yield f"{name}.bias", shape[-1:], "f32"


def projector(path: Path, embedding: int) -> Path:
    """A small projector for a model of that embedding length, with weights that are always the same."""
    return synthetic.write_random(path, Encoder().metadata(), list(Encoder().tensors(embedding)))


def picture(colour: Sequence[int], side: int = 56) -> bytes:
    """A PNG of one colour: red, green, blue from 0 to 255."""
    return _png(side, [b"\0" + bytes(chain.from_iterable([colour] * side))] * side)


def noise(side: int) -> bytes:
    """A PNG that no packing makes smaller: some three bytes a pixel."""
    random = Random(side)
    return _png(side, [b"\0" + random.randbytes(3 * side) for _ in range(side)])


def _png(side: int, rows: Sequence[bytes]) -> bytes:
    """A PNG of lines, each of its filter and three bytes a pixel."""
    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", size), (b"IDAT", zlib.compress(b"".join(rows), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
