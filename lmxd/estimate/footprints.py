"""A launch's bytes: the closed form plus the overhead of the process, which no buffer line of llama-server shows.

Priors, until they are learned: on an H100 (driver 580, CUDA build 11434) device use minus
all buffers was 597 to 599 MiB when ready, up to 631 MiB after a first long prompt with
flash attention, and up to 751 MiB without; MoE and MLA models took up to 130 MiB more
(tests/data/h100_measured.jsonl). In RAM a CPU server's resident size exceeded its buffers
by 22 to 47 MiB with a vocabulary of 49,152.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from lmxd.errors import LmxdError
from lmxd.gguf.footprint import Footprint, Impossible, Launch, flash_attention, footprint
from lmxd.gguf.model import Model

MIB: Final = 2**20
GPU_OVERHEAD: Final = 640 * MIB
GPU_OVERHEAD_EXPERTS: Final = 740 * MIB
GPU_OVERHEAD_NO_FLASH: Final = 768 * MIB
HOST_OVERHEAD: Final = 56 * MIB
HOST_OVERHEAD_PER_TOKEN: Final = 256
"""Bytes that the vocabulary takes in the process, per entry."""

DEFAULT_CONTEXT: Final = 4096
"""Tokens of a slot where nobody says how many: as much as most prompts need."""

Basis = str
CLOSED_FORM: Final[Basis] = "closed-form"
DECLARED: Final[Basis] = "declared"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Bytes by place and part, and where they come from."""

    basis: Basis
    parts: Footprint

    @property
    def device(self) -> int:
        return self.parts.device.total

    @property
    def host(self) -> int:
        return self.parts.host.total


def estimate(model: Model, launch: Launch, *, on_gpu: bool) -> Estimate:
    """What a llama-server takes for ``launch``. LmxdError ``invalid_params`` if it would not start."""
    try:
        parts = footprint(model, launch, on_gpu=on_gpu)
        flash = flash_attention(model, launch, on_gpu=on_gpu)
    except Impossible as error:
        raise LmxdError("invalid_params", str(error)) from error
    host_overhead = HOST_OVERHEAD + HOST_OVERHEAD_PER_TOKEN * model.vocabulary
    parts = Footprint(
        device=replace(parts.device, overhead=_gpu_overhead(model, flash) if on_gpu else 0),
        host=replace(parts.host, overhead=host_overhead),
    )
    return Estimate(basis=CLOSED_FORM, parts=parts)


def inputs(model: Model, launch: Launch) -> dict[str, int | str]:
    """What goes into the formula, for people who want to check it."""
    found: dict[str, int | str] = {
        "architecture": model.arch,
        "layers": model.layers,
        "embedding": model.embedding,
        "heads": max(model.heads, default=0),
        "kv_heads": max(model.kv_heads, default=0),
        "key_length": model.key_length,
        "value_length": model.value_length,
        "vocabulary": model.vocabulary,
        "trained_context": model.context,
        "cells": launch.cells * launch.slots,
        "ubatch": launch.ubatch,
        "cache_type_k": launch.cache_type_k,
        "cache_type_v": launch.cache_type_v,
    }
    if model.window:
        found |= {"window": model.window, "sliding_layers": sum(model.slides)}
    if model.experts_used:
        found |= {"experts_used": model.experts_used, "expert_feed_forward": model.expert_feed_forward}
    return found


def _gpu_overhead(model: Model, flash: bool) -> int:
    if not flash:
        return GPU_OVERHEAD_NO_FLASH
    return GPU_OVERHEAD_EXPERTS if model.experts_used or model.mla else GPU_OVERHEAD


def largest_context(launch: Launch, fits: Callable[[Launch], bool], step: int = 256) -> int | None:
    """The largest context up to the one asked for, in whole steps, for which ``fits``; None if there is none.

    Bytes grow with the context, so halving the interval finds it.
    """
    low, high = 0, launch.context // step
    while low < high:
        middle = (low + high + 1) // 2
        if fits(replace(launch, context=middle * step)):
            low = middle
        else:
            high = middle - 1
    return low * step or None
