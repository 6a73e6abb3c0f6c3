"""A projector with random weights: small, but llama-server sees through it as through a real one (llava's CLIP)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import synthetic

WIDTH, INNER, BLOCKS, IMAGE, PATCH = 64, 128, 2, 56, 14
METADATA: dict[str, Any] = {
    "general.architecture": "clip",
    "general.type": "mmproj",
    "clip.has_vision_encoder": True,
    "clip.projector_type": "mlp",
    "clip.use_gelu": True,
    "clip.vision.image_size": IMAGE,
    "clip.vision.patch_size": PATCH,
    "clip.vision.embedding_length": WIDTH,
    "clip.vision.feed_forward_length": INNER,
    "clip.vision.block_count": BLOCKS,
    "clip.vision.projection_dim": WIDTH,
    "clip.vision.attention.head_count": 4,
    "clip.vision.attention.layer_norm_epsilon": 1e-5,
    "clip.vision.image_mean": [0.48, 0.46, 0.41],
    "clip.vision.image_std": [0.27, 0.26, 0.28],
}


def projector(path: Path, embedding: int) -> Path:
    """A projector for a model of that embedding length, with weights that are always the same."""
    return synthetic.write_random(path, METADATA, list(_shapes(embedding)))


def _shapes(embedding: int) -> Iterator[synthetic.Shape]:
    yield "v.class_embd", (WIDTH,), "f32"
    yield "v.patch_embd.weight", (PATCH, PATCH, 3, WIDTH), "f32"
    yield "v.position_embd.weight", (WIDTH, (IMAGE // PATCH) ** 2 + 1), "f32"
    for norm in ("v.pre_ln", "v.post_ln", *(f"v.blk.{n}.ln{m}" for n in range(BLOCKS) for m in (1, 2))):
        yield from _with_bias(norm, (WIDTH,))
    for block in range(BLOCKS):
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_out", WIDTH, WIDTH),
            ("ffn_up", WIDTH, INNER),
            ("ffn_down", INNER, WIDTH),
        ):
            yield from _with_bias(f"v.blk.{block}.{name}", (rows, columns))
    yield from _with_bias("mm.0", (WIDTH, embedding))
    yield from _with_bias("mm.2", (embedding, embedding))


def _with_bias(name: str, shape: tuple[int, ...]) -> Iterator[synthetic.Shape]:
    yield f"{name}.weight", shape, "f32"
    yield f"{name}.bias", shape[-1:], "f32"


def picture(colour: Sequence[int], side: int = IMAGE) -> bytes:
    """A PNG of one colour: red, green, blue from 0 to 255."""
    rows = b"".join(b"\0" + bytes(chain.from_iterable([colour] * side)) for _ in range(side))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
