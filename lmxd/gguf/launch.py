"""The settings of a llama-server that decide about its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from lmxd.gguf.overrides import Override
from lmxd.gguf.types import CACHE_TYPES

_PAD: Final = 256
"""Cells that llama.cpp rounds a context up to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """The settings of a llama-server that decide about its memory.

    ``context`` is tokens per slot; of all slots together if ``unified``. ``gpu_layers`` None means all.
    ``split`` are the shares of several devices, all equal if empty. ``outputs_all``: embedding and
    reranking servers compute an output for every token of a micro-batch. ``drafted``: tokens that
    are proposed ahead by a draft model or by the model's own MTP layers. ``repack``: types of weights
    that the CPU at hand rearranges. ``lookup``: bytes of a table in RAM that proposes tokens. ``mtp``:
    the model's drafting layers are loaded, and have caches of types of their own.
    """

    context: int
    slots: int = 1
    unified: bool = False
    ubatch: int = 512
    batch: int = 2048
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash: str = "auto"
    gpu_layers: int | None = None
    outputs_all: bool = False
    swa_full: bool = False
    cache_on_device: bool = True
    op_offload: bool = True
    overrides: tuple[Override, ...] = ()
    split: tuple[float, ...] = ()
    mmap: bool = True
    repack: frozenset[str] = frozenset()
    drafted: int = 0
    lookup: int = 0
    mtp: bool = False
    mtp_cache_type_k: str = "f16"
    mtp_cache_type_v: str = "f16"

    @property
    def cells(self) -> int:
        """KV cells of one stream."""
        return padded(self.context, _PAD)

    @property
    def streams(self) -> int:
        """Caches beside each other: one for all slots if they share it."""
        return 1 if self.unified else self.slots

    @property
    def ubatch_asked(self) -> int:
        """The micro-batch as llama.cpp notes it: no more than a batch."""
        return min(self.ubatch, self.batch)

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch."""
        return min(self.ubatch_asked, self.cells * self.streams)

    @property
    def outputs(self) -> int:
        """Tokens of a micro-batch for which logits are computed."""
        return self.tokens if self.outputs_all else min(self.tokens, self.slots * (1 + self.drafted))

    def beside(self, cards: int) -> Launch:
        """The launch as it is on so many cards: beside any, the CPU rearranges no weights, also of layers left to it.

        There, memory that the card reads faster comes first, which is given up again for a mapped file.
        Source: llama-model.cpp:make_cpu_buft_list, llama-model-loader.cpp:create_tensor.
        """
        return replace(self, repack=frozenset()) if cards else self

    @property
    def quantized_v(self) -> bool:
        return CACHE_TYPES[self.cache_type_v].quantized


def padded(n: int, to: int = _PAD) -> int:
    return -(-n // to) * to
