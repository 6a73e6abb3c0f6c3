"""GGUF files of real shape whose tensor data is a hole: an 8B model costs a few kilobytes of disk.

llama-server loads one as it would the real one (with a vocabulary) and allocates the same buffers.
"""

from __future__ import annotations

import io
import math
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmxd.gguf.facts import model_of
from lmxd.gguf.header import read_header
from lmxd.gguf.model import Model
from lmxd.gguf.types import TENSOR_TYPES

Shape = tuple[str, tuple[int, ...], str]
_NUMBERS = {t.name: n for n, t in TENSOR_TYPES.items()}


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(v: Any) -> bytes:
    """A typed GGUF value: bool, uint32, float32, string, or an array of one of them."""
    match v:
        case bool():
            return struct.pack("<I?", 7, v)
        case int():
            return struct.pack("<II", 4, v)
        case float():
            return struct.pack("<If", 6, v)
        case str():
            return struct.pack("<I", 8) + _string(v)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(_string, v))
        case [bool(), *_]:
            return struct.pack("<IIQ", 9, 7, len(v)) + struct.pack(f"<{len(v)}?", *v)
        case [int(), *_]:
            return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)
        case [float(), *_]:
            return struct.pack("<IIQ", 9, 6, len(v)) + struct.pack(f"<{len(v)}f", *v)
    raise TypeError(v)


def header(metadata: Mapping[str, Any], tensors: Sequence[Shape], version: int = 3) -> tuple[bytes, int]:
    """(header bytes, bytes of the whole file)."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)))
    for key, v in metadata.items():
        out += _string(key) + value(v)
    offset = 0
    for name, shape, kind in tensors:
        number = _NUMBERS[kind]
        out += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        out += struct.pack("<IQ", number, offset)
        count = 1
        for n in shape:
            count *= n
        size = count // TENSOR_TYPES[number].block * TENSOR_TYPES[number].size
        offset += -(-size // 32) * 32
    return bytes(out), -(-len(out) // 32) * 32 + offset


def model(parts: tuple[Mapping[str, Any], Sequence[Shape]]) -> Model:
    """The facts of a model of these metadata and tensors. Unsupported if no closed form covers it."""
    data, size = header(*parts)
    return model_of(read_header(io.BytesIO(data), size))


def write(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Shape]) -> Path:
    head, size = header(metadata, tensors)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def write_random(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Shape], strength: float = 0.1) -> Path:
    """The same with weights that are random, always the same and of f32 each: for models that are to compute."""
    head, size = header(metadata, tensors)
    chance = random.Random(1)
    with path.open("wb") as file:
        file.write(head)
        at = -(-len(head) // 32) * 32
        for name, shape, kind in tensors:
            assert kind == "f32", name
            count = math.prod(shape)
            file.seek(at)
            file.write(struct.pack(f"<{count}f", *(chance.gauss(0, strength) for _ in range(count))))
            at += -(-4 * count // 32) * 32
        file.truncate(size)
    return path


def decoder(
    arch: str,
    *,
    layers: int,
    embedding: int,
    heads: int,
    kv_heads: int | list[int],
    feed_forward: int,
    vocabulary: int,
    head: int,
    kind: str = "q4_0",
    embedding_kind: str | None = None,
    tied: bool = False,
    qk_norm: bool = False,
    post_norm: bool = False,
    experts: tuple[int, int, int] | None = None,
    context: int = 131072,
    extra: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Shape]]:
    """Metadata and tensors of a decoder. ``experts``: how many, how many used, their feed-forward length."""
    kv_of = kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers
    embedding_kind = embedding_kind or kind
    metadata: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": f"synthetic {arch}",
        f"{arch}.block_count": layers,
        f"{arch}.context_length": context,
        f"{arch}.embedding_length": embedding,
        f"{arch}.feed_forward_length": feed_forward,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv_heads,
        f"{arch}.attention.key_length": head,
        f"{arch}.attention.value_length": head,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.rope.dimension_count": head,
        f"{arch}.rope.freq_base": 500000.0,
        f"{arch}.vocab_size": vocabulary,
    }
    if experts:
        metadata |= {
            f"{arch}.expert_count": experts[0],
            f"{arch}.expert_used_count": experts[1],
            f"{arch}.expert_feed_forward_length": experts[2],
        }
    metadata |= {f"{arch}.{k}": v for k, v in (extra or {}).items()}
    tensors: list[Shape] = [
        ("token_embd.weight", (embedding, vocabulary), embedding_kind),
        ("output_norm.weight", (embedding,), "f32"),
    ]
    if not tied:
        tensors.append(("output.weight", (embedding, vocabulary), embedding_kind))
    for layer in range(layers):
        rows: list[tuple[str, tuple[int, ...], str]] = [
            ("attn_norm", (embedding,), "f32"),
            ("attn_q", (embedding, heads * head), kind),
            ("attn_k", (embedding, kv_of[layer] * head), kind),
            ("attn_v", (embedding, kv_of[layer] * head), kind),
            ("attn_output", (heads * head, embedding), kind),
            ("ffn_norm", (embedding,), "f32"),
        ]
        if qk_norm:
            rows += [("attn_q_norm", (head,), "f32"), ("attn_k_norm", (head,), "f32")]
        if post_norm:
            rows += [("post_attention_norm", (embedding,), "f32"), ("post_ffw_norm", (embedding,), "f32")]
        if experts:
            count, _, width = experts
            rows += [
                ("ffn_gate_inp", (embedding, count), "f32"),
                ("ffn_gate_exps", (embedding, width, count), kind),
                ("ffn_up_exps", (embedding, width, count), kind),
                ("ffn_down_exps", (width, embedding, count), kind),
            ]
        else:
            rows += [
                ("ffn_gate", (embedding, feed_forward), kind),
                ("ffn_up", (embedding, feed_forward), kind),
                ("ffn_down", (feed_forward, embedding), kind),
            ]
        tensors += [(f"blk.{layer}.{name}.weight", shape, k) for name, shape, k in rows]
    return metadata, tensors


def llama_8b(kind: str = "q4_0") -> tuple[dict[str, Any], list[Shape]]:
    return decoder(
        "llama", layers=32, embedding=4096, heads=32, kv_heads=8, feed_forward=14336, vocabulary=128256, head=128,
        kind=kind, embedding_kind="q6_k" if kind == "q4_0" else kind,
    )  # fmt: skip


def gemma3_12b() -> tuple[dict[str, Any], list[Shape]]:
    return decoder(
        "gemma3", layers=48, embedding=3840, heads=16, kv_heads=8, feed_forward=15360, vocabulary=262208, head=256,
        embedding_kind="q6_k", tied=True, qk_norm=True, post_norm=True, extra={"attention.sliding_window": 1024},
    )  # fmt: skip


def qwen3_4b() -> tuple[dict[str, Any], list[Shape]]:
    return decoder(
        "qwen3", layers=36, embedding=2560, heads=32, kv_heads=8, feed_forward=9728, vocabulary=151936, head=128,
        embedding_kind="q6_k", tied=True, qk_norm=True, context=40960,
    )  # fmt: skip


def qwen3_30b_a3b() -> tuple[dict[str, Any], list[Shape]]:
    return decoder(
        "qwen3moe", layers=48, embedding=2048, heads=32, kv_heads=4, feed_forward=6144, vocabulary=151936, head=128,
        embedding_kind="q6_k", qk_norm=True, experts=(128, 8, 768), context=40960,
    )  # fmt: skip


def vocabulary(size: int) -> dict[str, Any]:
    """A tokenizer of our own making: one token a byte, as GPT-2 writes bytes, and padding up to ``size``."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in printable}
    letters |= {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in letters)}
    special = ["<|start|>", "<|end|>"]
    tokens = special + [letters[b] for b in range(256)] + ["th"]
    tokens += [f"<|pad{n}|>" for n in range(size - len(tokens))]
    kinds = [3, 3] + [1] * 257 + [5] * (size - 259)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
    }


def speaking(parts: tuple[dict[str, Any], list[Shape]]) -> tuple[dict[str, Any], list[Shape]]:
    """A model that can also be prompted: with a vocabulary of its size."""
    metadata, tensors = parts
    size = next(shape[1] for name, shape, _ in tensors if name == "token_embd.weight")
    return metadata | vocabulary(size), tensors
