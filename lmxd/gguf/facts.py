"""A header turned into the facts that memory depends on.

Architectures that the closed form does not cover are refused by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lmxd.gguf.architectures import (
    ARCHITECTURES,
    COMPRESSED,
    INDEXED,
    KEPT_OF_DRAFTING,
    PATTERN_ARCHITECTURES,
    ROUTED,
    SHARED_CACHE,
    Memory,
)
from lmxd.gguf.header import Array, Header, HeaderError, Scalar, Tensor
from lmxd.gguf.model import Indexer, Model, layer_of

_KEPT: Final = ("nextn.embed_tokens.weight", "nextn.shared_head_head.weight", "nextn.shared_head_norm.weight")
_MAX_LAYERS: Final = 2048
"""More than any model has: the file is untrusted."""


def beside_key(metadata: Mapping[str, Scalar | Array]) -> str | None:
    """The key of a profile for a file that goes beside a model: ``mmproj`` or ``lora``; None for a model itself."""
    if metadata.get("general.architecture") == "clip" or metadata.get("general.type") == "mmproj":
        return "mmproj"
    return "lora" if metadata.get("general.type") == "adapter" or "adapter.type" in metadata else None


class Unsupported(ValueError):
    """The error for a model that the closed form does not cover. The message names why, and how to go on."""


def model_of(header: Header, tensors: tuple[Tensor, ...] | None = None) -> Model:
    """The facts in ``header``; ``tensors`` are those of all parts of a split file.

    Raises HeaderError for missing or impossible figures, Unsupported for an architecture
    that the closed form does not cover.
    """
    arch = header.metadata.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise HeaderError("general.architecture is missing: this is not a model file")
    if arch not in ARCHITECTURES:
        raise Unsupported(f"the closed form does not cover {arch!r} models: set estimated_memory_gb for this one")
    return _Facts(arch, header.metadata).model(header, tensors if tensors is not None else header.tensors)


class _Facts:
    """Looks keys up under the architecture's prefix."""

    def __init__(self, arch: str, metadata: Mapping[str, Scalar | Array]) -> None:
        self.arch = arch
        self.rules = ARCHITECTURES[arch]
        self.metadata = metadata

    def model(self, header: Header, tensors: tuple[Tensor, ...]) -> Model:
        total, layers = self.counts()
        embedding = self.number("embedding_length")
        heads = self.per_layer("attention.head_count", layers, (0,) * layers)
        kv_heads = self.per_layer("attention.head_count_kv", layers, heads)
        feed_forward = self.per_layer("feed_forward_length", layers, (0,) * layers)
        if self.arch in ROUTED:
            total, layers = total + 1, layers + 1
            heads, kv_heads, feed_forward = (*heads, 1), (*kv_heads, 1), (*feed_forward, 0)
        head = embedding // heads[0] if heads and heads[0] else 0
        key, value = (self.number(f"attention.{what}_length", head) if head else 0 for what in ("key", "value"))
        window, slides = self.sliding(layers)
        caches, states = self.memory(layers, kv_heads, feed_forward)
        return Model(
            arch=self.arch,
            name=str(self.metadata.get("general.name", "")),
            layers=layers,
            all_layers=total,
            context=self.number("context_length"),
            embedding=embedding,
            vocabulary=vocabulary_of(header, tensors),
            heads=heads,
            kv_heads=kv_heads,
            key=key,
            value=value,
            key_sliding=self.number("attention.key_length_swa", key),
            value_sliding=self.number("attention.value_length_swa", value),
            feed_forward=feed_forward,
            experts_used=self.most("expert_used_count"),
            expert_feed_forward=self.most("expert_feed_forward_length"),
            window=window,
            slides=slides,
            caches=caches,
            states=states,
            state_width=self.state_width(embedding, heads) if any(states) else 0,
            ssm_inner=(inner := self.number("ssm.inner_size", 0)),
            ssm_state=(state := self.number("ssm.state_size", 0)),
            ssm_conv=inner + 2 * self.number("ssm.group_count", 0) * state,
            ssm_dt=self.number("ssm.time_step_rank", 0),
            mla=f"{self.arch}.attention.key_length_mla" in self.metadata or self.arch in COMPRESSED,
            head_of_mla=self.number("attention.key_length_mla", 0),
            indexer=self.indexer(layers, tensors),
            ratios=self.per_layer("attention.compress_ratios", layers, (0,) * layers),
            tensors=tuple(t for t in tensors if not self.is_skipped(t, layers)),
            skipped=tuple(t for t in tensors if self.is_skipped(t, layers)),
        )

    def counts(self) -> tuple[int, int]:
        """(all layers, those that are not for drafting)."""
        total = self.number("block_count", most=_MAX_LAYERS)
        return total, total - self.number("nextn_predict_layers", 0, most=total)

    def is_skipped(self, tensor: Tensor, layers: int) -> bool:
        """Returns whether a tensor is loaded only for drafting: one of a layer after the last that is run."""
        layer = layer_of(tensor)
        if layer is None or layer < layers:
            return False
        return self.arch not in KEPT_OF_DRAFTING or not tensor.name.endswith(_KEPT)

    def indexer(self, layers: int, tensors: tuple[Tensor, ...]) -> Indexer:
        """Its layers are as the file lists them, else those with its tensors."""
        most = self.number("attention.indexer.top_k", 0)
        if self.arch not in INDEXED or not most:
            return Indexer((False,) * layers)
        has = {layer_of(tensor) for tensor in tensors if ".indexer." in tensor.name}
        kinds = self.per_layer("attention.indexer.types", layers, tuple(int(layer in has) for layer in range(layers)))
        heads, key = self.number("attention.indexer.head_count"), self.number("attention.indexer.key_length")
        return Indexer(tuple(kind > 0 for kind in kinds), heads, key, most)

    def number(self, key: str, default: int | None = None, most: int = 2**31) -> int:
        value = self.metadata.get(f"{self.arch}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise HeaderError(f"{self.arch}.{key} is {'missing' if value is None else f'{value!r}, not a number'}")
        if not 0 <= value <= most:
            raise HeaderError(f"{self.arch}.{key} is {value}: 0 to {most} is possible")
        return value

    def most(self, key: str) -> int:
        """A figure, or the largest where there is one for each layer."""
        value = self.metadata.get(f"{self.arch}.{key}")
        if isinstance(value, Array):
            return max((int(v) for v in value.values or () if 0 <= v <= 2**31), default=0)
        return self.number(key, 0)

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
        rules = self.rules
        if self.arch in COMPRESSED:
            return self.number("attention.sliding_window"), (True,) * layers
        stated = self.number("attention.sliding_window", rules.window)
        key = f"{self.arch}.attention.sliding_window"
        if self.arch in PATTERN_ARCHITECTURES:
            return self.pattern(stated, layers, rules.period)
        if rules.memory is Memory.BY_HEADS and self.arch == "lfm2" and stated:
            heads = self.per_layer("attention.head_count_kv", layers, (0,) * layers)
            return stated, tuple(h > 0 for h in heads)
        if not rules.period or stated == 0 or (rules.needs_window and key not in self.metadata):
            return none
        if self.arch == "exaone4" and layers != 64:  # llama.cpp lets only the 32B model slide
            return none
        return self.pattern(rules.window if rules.fixed else stated, layers, rules.period)

    def pattern(self, window: int, layers: int, period: int) -> tuple[int, tuple[bool, ...]]:
        key = f"{self.arch}.attention.sliding_window_pattern"
        pattern = self.metadata.get(key, period)
        if isinstance(pattern, Array):
            if pattern.values is None or len(pattern.values) < layers:
                raise HeaderError(f"{key} has {pattern.length} figures for {layers} layers")
            return window, tuple(bool(v) for v in pattern.values[:layers])
        if self.arch in PATTERN_ARCHITECTURES and key not in self.metadata:
            raise HeaderError(f"{key} is missing")
        if isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 0:
            raise HeaderError(f"{key} is {pattern!r}")
        return window, tuple(_slides(layer, pattern, self.rules.full_first) for layer in range(layers))

    def memory(
        self, layers: int, kv_heads: tuple[int, ...], feed_forward: tuple[int, ...]
    ) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """(which layers have a cache of their own, which have a state)."""
        every, no = (True,) * layers, (False,) * layers
        match self.rules.memory:
            case Memory.NOTHING:
                return no, no
            case Memory.STATE:
                return no, every
            case Memory.BOTH:
                return every, every
            case Memory.BY_HEADS:
                return tuple(h > 0 for h in kv_heads), tuple(h == 0 for h in kv_heads)
            case Memory.BY_HEADS_AND_FEED_FORWARD:
                plain = tuple(f == 0 for f in feed_forward)
                states = tuple(p and h == 0 for p, h in zip(plain, kv_heads, strict=True))
                return tuple(p and h > 0 for p, h in zip(plain, kv_heads, strict=True)), states
            case Memory.BY_INTERVAL:
                states = self.interval(layers)
                return tuple(not s for s in states), states
        shared_from = SHARED_CACHE.get(self.arch, layers - self.number("attention.shared_kv_layers", 0, most=layers))
        return tuple(layer < shared_from for layer in range(layers)), no

    def interval(self, layers: int) -> tuple[bool, ...]:
        listed = self.metadata.get(f"{self.arch}.attention.recurrent_layers")
        if isinstance(listed, Array) and listed.values is not None and len(listed.values) >= layers:
            return tuple(bool(v) for v in listed.values[:layers])
        every = self.number("full_attention_interval", 4) or 1
        return tuple((layer + 1) % every != 0 for layer in range(layers))

    def state_width(self, embedding: int, heads: tuple[int, ...]) -> int:
        """Floats of state per slot: convolution and recurrence (llama-hparams.cpp: n_embd_r, n_embd_s)."""
        first = heads[0] if heads else 0
        conv = self.number("ssm.conv_kernel", 0)
        if wkv := self.number("wkv.head_size", 0):
            return self.number("token_shift_count", 2) * embedding + embedding * wkv
        if shortconv := self.number("shortconv.l_cache", 0):
            return embedding * (shortconv - 1)
        if kda := self.number("kda.head_dim", 0):
            return 3 * (conv - 1 if conv else 3) * first * kda + kda * kda * first
        if self.arch == "minimax-01":
            key = self.number("attention.key_length", embedding // max(first, 1))
            return key * key * first
        inner, state = self.number("ssm.inner_size"), self.number("ssm.state_size")
        group = self.number("ssm.group_count", 0)
        return max(conv - 1, 0) * (inner + 2 * group * state) + state * inner


def vocabulary_of(header: Header, tensors: tuple[Tensor, ...] | None = None) -> int:
    """The number of tokens that a model knows: of its tokenizer, else of its embeddings; 0 if neither says so."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Array):
        return tokens.length
    for tensor in header.tensors if tensors is None else tensors:
        if tensor.name == "token_embd.weight":
            return tensor.shape[-1]
    size = header.metadata.get(f"{header.metadata.get('general.architecture')}.vocab_size", 0)
    return size if isinstance(size, int) and 0 <= size <= 2**31 else 0


def _slides(layer: int, period: int, full_first: bool) -> bool:
    """llama.cpp's set_swa_pattern: a period of 0 slides everywhere, of 1 nowhere."""
    if period == 0:
        return True
    return layer % period != 0 if full_first else layer % period < period - 1
