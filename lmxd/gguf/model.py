"""A model as far as memory depends on it: layers, heads, windows, states, experts, tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lmxd.gguf.architectures import BATCH_ONLY, NEVER_TIED, ROLLED_BACK, WITHOUT_LOGITS
from lmxd.gguf.header import Tensor

_WITH_THE_FIRST: Final = ("per_layer_model_proj.", "per_layer_proj_norm.")


@dataclass(frozen=True, slots=True)
class Indexer:
    """The part of some ``layers`` that finds the cells to attend to.

    ``heads`` queries are compared with one key of ``key`` elements for each cell, and the ``most`` likely are taken.
    """

    layers: tuple[bool, ...]
    heads: int = 0
    key: int = 0
    most: int = 0

    def __bool__(self) -> bool:
        return any(self.layers)


@dataclass(frozen=True, eq=False)
class Model:
    """The facts of a model that its memory depends on.

    Per-layer tuples have ``layers`` entries; ``all_layers`` counts MTP layers too. ``window`` is 0 where no layer
    slides. ``states`` and ``caches`` say what a layer keeps; ``state_width`` is floats per slot. ``ratios``: how many
    tokens a row stands for of what a layer keeps beside its window, 0 for nothing.
    """

    arch: str
    name: str
    layers: int
    all_layers: int
    context: int
    embedding: int
    vocabulary: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key: int
    value: int
    key_sliding: int
    value_sliding: int
    feed_forward: tuple[int, ...]
    experts_used: int
    expert_feed_forward: int
    window: int
    slides: tuple[bool, ...]
    caches: tuple[bool, ...]
    states: tuple[bool, ...]
    state_width: int
    ssm_inner: int
    ssm_state: int
    ssm_conv: int
    ssm_dt: int
    mla: bool
    head_of_mla: int
    indexer: Indexer
    ratios: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    skipped: tuple[Tensor, ...]
    """MTP layers' tensors, which are loaded only for drafting."""

    def key_length(self, layer: int) -> int:
        return self.key_sliding if self.slides[layer] else self.key

    def value_length(self, layer: int) -> int:
        return self.value_sliding if self.slides[layer] else self.value

    @property
    def attends_cache(self) -> bool:
        """Returns whether tokens look at earlier ones in a cache."""
        return any(self.caches) and self.arch not in BATCH_ONLY

    @cached_property
    def widest_value(self) -> int:
        """The widest row of V of any layer, in elements."""
        return max((self.value_length(n) * heads for n, heads in enumerate(self.kv_heads)), default=0)

    @cached_property
    def shapes(self) -> Mapping[str, Tensor]:
        """Tensors by name."""
        return {t.name: t for t in self.tensors}

    @property
    def logits(self) -> int:
        """Floats of output for a token; none of a model that only embeds."""
        return 0 if self.arch in WITHOUT_LOGITS else self.vocabulary

    @cached_property
    def tied(self) -> bool:
        """Returns whether the embeddings serve as the output, of which the device gets a copy."""
        shared = "output.weight" not in self.shapes and "token_embd.weight" in self.shapes
        return shared and self.arch not in NEVER_TIED

    @property
    def rolls_back(self) -> bool:
        """Returns whether a state is kept for each token that its own layers draft."""
        return self.arch in ROLLED_BACK and any(self.states)

    @property
    def qk_norm(self) -> bool:
        return any(name.endswith("attn_q_norm.weight") for name in self.shapes)


def layer_of(tensor: Tensor) -> int | None:
    """The number in ``blk.N.…``; None for tensors outside the layers, but for those that go with the first."""
    if tensor.name.startswith(_WITH_THE_FIRST):
        return 0
    if not tensor.name.startswith("blk."):
        return None
    number = tensor.name.split(".", 2)[1]
    return int(number) if number.isdecimal() and len(number) < 6 else None
