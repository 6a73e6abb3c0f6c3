"""Directories of Hugging Face's as vLLM takes them: a config, a tokenizer, and weights that are made here.

Nothing but the standard library makes them. ``python tests/hf_directory.py DIR`` makes a small Llama there that
vLLM, SGLang and transformers load and that answers chats with random words.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

Tensors: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (the type as safetensors spells it, the shape)."""

_WIDTHS: Final = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
_SPECIAL: Final = ("<s>", "</s>", "<pad>", "<unk>")
_CHAT: Final = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

LLAMA: Final[Mapping[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 32_768,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
"""The config of a small Llama: 0.9 MiB of weights, 512 bytes of K and V for each token."""
LLAMA_8B: Final[Mapping[str, Any]] = {
    **LLAMA,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
"""The shape of Llama 3.1 8B."""


def llama_tensors(config: Mapping[str, Any] = LLAMA, kind: str = "BF16") -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of a Llama of this config, by the names that transformers gives them."""
    hidden, inner, vocabulary = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
                "self_attn.q_proj": (queries, hidden),
                "self_attn.k_proj": (keys, hidden),
                "self_attn.v_proj": (keys, hidden),
                "self_attn.o_proj": (hidden, queries),
                "mlp.gate_proj": (inner, hidden),
                "mlp.up_proj": (inner, hidden),
                "mlp.down_proj": (hidden, inner),
            }.items()
        }
    return {name: (kind, shape) for name, shape in shapes.items()}


def safetensors(tensors: Tensors, seed: int | None = 1) -> bytes:
    """The bytes of a file of safetensors: small random weights in BF16, F16 and F32, zeros in other types.

    Without a ``seed`` all are zeros.
    """
    header, data = _header(tensors), bytearray()
    chance = random.Random(seed)
    for kind, shape in tensors.values():
        data += _weights(kind, _count(shape), None if seed is None else chance)
    return header + data


def safetensors_file(path: Path, tensors: Tensors) -> Path:
    """A file whose header is of ``tensors`` and whose data is a hole: as long as a real one, and takes no room."""
    header = _header(tensors)
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + sum(_WIDTHS[kind] * _count(shape) for kind, shape in tensors.values()))
    return path


def hf_directory(path: Path, config: Mapping[str, Any] = LLAMA, tensors: Tensors | None = None) -> Path:
    """A directory with a config, a tokenizer and, of the ``tensors``, one file with random weights."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config, indent=2))
    (path / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 1}))
    (path / "tokenizer.json").write_text(json.dumps(_tokenizer(int(config.get("vocab_size", 512)))))
    (path / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config()))
    if tensors:
        (path / "model.safetensors").write_bytes(safetensors(tensors))
    return path


def hollow_directory(path: Path, config: Mapping[str, Any] = LLAMA) -> Path:
    """The directory of a Llama whose weights are a hole, for who reads headers, or loads dummies."""
    hf_directory(path, config)
    safetensors_file(path / "model.safetensors", llama_tensors(config))
    return path


def _header(tensors: Tensors) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (kind, shape) in tensors.items():
        size = _WIDTHS[kind] * _count(shape)
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _weights(kind: str, count: int, chance: random.Random | None) -> bytes:
    """Weights of about 0.06 in either sign, from a block that repeats: fast enough for some hundred megabytes."""
    if chance is None or kind not in ("BF16", "F16", "F32"):
        return bytes(_WIDTHS[kind] * count)
    several = [chance.gauss(0, 0.06) for _ in range(min(count, 65_521))]
    match kind:
        case "F32":
            block = struct.pack(f"<{len(several)}f", *several)
        case "F16":
            block = struct.pack(f"<{len(several)}e", *several)
        case _:
            block = b"".join(struct.pack("<f", weight)[2:] for weight in several)
    whole, rest = divmod(_WIDTHS[kind] * count, len(block) or 1)
    return block * whole + block[:rest]


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    """A byte-level tokenizer without merges: special tokens, one for each byte, and words that only answers have."""
    words = [*_SPECIAL, *_byte_letters()]
    words += [f"w{number}" for number in range(vocabulary - len(words))]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": word, **special} for number, word in enumerate(_SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": bytewise,
        "post_processor": bytewise,
        "decoder": bytewise,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [],
        },
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": 1_000_000,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT,
    }


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in byte-level tokenizers, as GPT-2 chose them."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


if __name__ == "__main__":
    print(hf_directory(Path(sys.argv[1]), LLAMA, llama_tensors()))
