"""A header turned into the facts that memory depends on: layers, heads, windows, experts.

Which layers slide follows llama.cpp build 11434 (src/models/*.cpp, ``load_swa_pattern``).
Architectures that the closed form does not cover are refused by name, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmxd.gguf.header import Array, Header, HeaderError, Scalar, Tensor

DENSE: Final = frozenset(
    """llama mistral3 qwen qwen2 qwen2vl qwen3 qwen3vl phi2 phi3 granite glm4 smollm3 starcoder starcoder2 stablelm
    internlm2 xverse command-r gemma olmo deci nemotron exaone arcee ernie4_5 hunyuan-dense seed_oss apertus orion
    baichuan falcon gpt2 gptneox minicpm chatglm bloom mpt refact codeshell openelm jais plamo maincoder
    qwen2moe qwen3moe qwen3vlmoe phimoe olmoe dbrx grok arctic deepseek glm4moe minimax-m2 ernie4_5-moe bailingmoe
    bailingmoe2 dots1 hunyuan-moe granitemoe grovemoe deepseek2 plm minicpm3""".split()
)
"""Full attention on every layer (phi3's window is not used by llama.cpp)."""

SLIDING: Final[dict[str, tuple[int, bool]]] = {
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gpt-oss": (2, False),
    "cohere2": (4, False),
    "olmo2": (4, False),
    "exaone4": (4, False),
    "exaone-moe": (4, False),
    "afmoe": (4, False),
    "plamo3": (8, False),
    "mellum": (4, False),
    "llama4": (4, False),
    "cohere2moe": (4, True),
    "laguna": (4, True),
    "smallthinker": (4, True),
}
"""Architecture -> (period, whether the full layer comes first in it). A key in the file overrides the period."""

_LLAMA4_CHUNK: Final = 8192
_MAX_LAYERS: Final = 2048


class Unsupported(ValueError):
    """The closed form does not cover this model. The message names what and how to go on."""


@dataclass(frozen=True, slots=True)
class Model:
    """Per-layer tuples have ``layers`` entries. ``window`` is 0 where no layer slides."""

    arch: str
    name: str
    layers: int
    context: int
    embedding: int
    vocabulary: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    feed_forward: tuple[int, ...]
    experts_used: int
    expert_feed_forward: int
    window: int
    slides: tuple[bool, ...]
    mla: bool
    tensors: tuple[Tensor, ...]

    @property
    def qk_norm(self) -> bool:
        return any(t.name.endswith("attn_q_norm.weight") for t in self.tensors)


def model_of(header: Header, tensors: tuple[Tensor, ...] | None = None) -> Model:
    """The facts in ``header``; ``tensors`` are those of all parts of a split file.

    Raises HeaderError for missing or impossible figures, Unsupported for an architecture
    that the closed form does not cover.
    """
    arch = header.metadata.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise HeaderError("general.architecture is missing: this is not a model file")
    if arch not in DENSE and arch not in SLIDING:
        raise Unsupported(f"the closed form does not cover {arch!r} models: set estimated_memory_gb for this one")
    return _Facts(arch, header.metadata).model(tensors if tensors is not None else header.tensors)


class _Facts:
    """Looks keys up under the architecture's prefix."""

    def __init__(self, arch: str, metadata: object) -> None:
        assert isinstance(metadata, dict)
        self.arch = arch
        self.metadata: dict[str, Scalar | Array] = metadata

    def model(self, tensors: tuple[Tensor, ...]) -> Model:
        total = self.number("block_count", most=_MAX_LAYERS)
        layers = total - self.number("nextn_predict_layers", 0, most=total)
        embedding = self.number("embedding_length")
        heads = self.per_layer("attention.head_count", layers)
        kv_heads = self.per_layer("attention.head_count_kv", layers, heads)
        head = embedding // max(heads) if max(heads, default=0) else 0
        window, slides = self.sliding(layers)
        return Model(
            arch=self.arch,
            name=str(self.metadata.get("general.name", "")),
            layers=layers,
            context=self.number("context_length"),
            embedding=embedding,
            vocabulary=self.vocabulary(tensors),
            heads=heads,
            kv_heads=kv_heads,
            key_length=self.number("attention.key_length", head),
            value_length=self.number("attention.value_length", head),
            feed_forward=self.per_layer("feed_forward_length", layers, (0,) * layers),
            experts_used=self.number("expert_used_count", 0),
            expert_feed_forward=self.number("expert_feed_forward_length", 0),
            window=window,
            slides=slides,
            mla=f"{self.arch}.attention.key_length_mla" in self.metadata,
            tensors=tuple(t for t in tensors if (layer_of(t) or 0) < layers),
        )

    def number(self, key: str, default: int | None = None, most: int = 2**31) -> int:
        value = self.metadata.get(f"{self.arch}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise HeaderError(f"{self.arch}.{key} is {'missing' if value is None else f'{value!r}, not a number'}")
        if not 0 <= value <= most:
            raise HeaderError(f"{self.arch}.{key} is {value}: 0 to {most} is possible")
        return value

    def per_layer(self, key: str, layers: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self.metadata.get(f"{self.arch}.{key}")
        if value is None and default is not None:
            return default
        if not isinstance(value, Array):
            return (self.number(key),) * layers
        if value.values is None or len(value.values) < layers:
            raise HeaderError(f"{self.arch}.{key} has {value.length} figures for {layers} layers")
        figures = tuple(int(v) for v in value.values[:layers])
        if any(not 0 <= v <= 2**31 for v in figures):
            raise HeaderError(f"{self.arch}.{key} has impossible figures")
        return figures

    def sliding(self, layers: int) -> tuple[int, tuple[bool, ...]]:
        """(window in tokens, which layers slide)."""
        none = (0, (False,) * layers)
        if self.arch not in SLIDING:
            return none
        default = _LLAMA4_CHUNK if self.arch == "llama4" else 0
        window = self.number("attention.sliding_window", default)
        period, dense_first = SLIDING[self.arch]
        pattern = self.metadata.get(f"{self.arch}.attention.sliding_window_pattern", period)
        if window == 0:
            return none
        if isinstance(pattern, Array):
            if pattern.values is None or len(pattern.values) < layers:
                raise HeaderError(f"{self.arch}.attention.sliding_window_pattern has {pattern.length} figures")
            return window, tuple(bool(v) for v in pattern.values[:layers])
        if isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 0:
            raise HeaderError(f"{self.arch}.attention.sliding_window_pattern is {pattern!r}")
        return window, tuple(_slides(layer, pattern, dense_first) for layer in range(layers))

    def vocabulary(self, tensors: tuple[Tensor, ...]) -> int:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Array):
            return tokens.length
        for tensor in tensors:
            if tensor.name == "token_embd.weight":
                return tensor.shape[-1]
        return self.number("vocab_size", 0)


def _slides(layer: int, period: int, dense_first: bool) -> bool:
    """llama.cpp's set_swa_pattern: a period of 0 slides everywhere, of 1 nowhere."""
    if period == 0:
        return True
    return layer % period != 0 if dense_first else layer % period < period - 1


def layer_of(tensor: Tensor) -> int | None:
    """The number in ``blk.N.…``; None for tensors outside the layers."""
    if not tensor.name.startswith("blk."):
        return None
    number = tensor.name.split(".", 2)[1]
    return int(number) if number.isdecimal() and len(number) < 6 else None
