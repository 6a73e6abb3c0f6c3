"""Drafting by a model's own layers (MTP): a context of their own, with a cache and a compute buffer.

Sources, llama.cpp build 11434: common/speculative.cpp (the context has the target's cells), src/models/*.cpp
(LLM_GRAPH_TYPE_DECODER_MTP), src/llama-model.cpp:create_memory. Compared with real loads (bench/data/drafting.jsonl).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from lmxd.gguf.architectures import CACHED_DRAFTING, DRAFTING
from lmxd.gguf.builds import Build
from lmxd.gguf.cache import cached, kv_bytes
from lmxd.gguf.compute import mask_bytes
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Indexer, Model
from lmxd.gguf.moments import attention, experts, feed_forward
from lmxd.gguf.types import CACHE_TYPES

_APART: Final = 11400
"""The first family of builds in which a context has either the drafting layers or the others (11434; not 10434)."""
_ENDS_OLDER: Final = frozenset(("glm4moe",))
"""Architectures whose first drafted token ends builds before those (10068 and 10434; not 11434)."""
_REMEMBERED: Final = 64


def why_not(model: Model) -> str | None:
    """The reason why llama.cpp cannot draft with the model's own layers; None if it can."""
    if model.all_layers == model.layers:
        return "the model has no layers of its own for drafting: take out mtp, or give it a draft model"
    if model.arch not in DRAFTING:
        return (
            f"llama.cpp does not draft with the layers of {model.arch} models: take out mtp, or give it a draft model"
        )
    return None


def why_not_with(build: Build, model: Model) -> str | None:
    """The reason why one build cannot, though it loads the model."""
    if model.arch not in _ENDS_OLDER or build.first >= _APART:
        return None
    return f"llama-server before build {_APART} ends itself when {model.arch} models draft: take out mtp, or upgrade it"


def own_cache(model: Model, launch: Launch, build: Build, *, on_gpu: bool) -> int:
    """The cache of the drafting layers in the model's own context, which most models do without."""
    cached_too = model.arch in CACHED_DRAFTING or _all_in_one(model, build)
    return _cache(model, launch, on_gpu=on_gpu) if cached_too else 0


def drafting_cache(model: Model, launch: Launch, build: Build, *, flash: bool, on_gpu: bool) -> int:
    """The cache of the drafting layers in their context: for all cells, and of types of its own."""
    launch = _drafting(launch)
    others = range(model.layers) if _all_in_one(model, build) else ()
    trunk = sum(kv_bytes(model, launch, layer, flash=flash, on_gpu=on_gpu) for layer in others)
    return trunk + _cache(model, launch, on_gpu=on_gpu)


def _all_in_one(model: Model, build: Build) -> bool:
    """Older builds cache every layer in both contexts, but for models that keep states."""
    return build.first < _APART and not any(model.states)


def drafting_buffer(model: Model, launch: Launch, *, flash: bool) -> int:
    """The compute buffer of that context.

    There is one layer, so the mask is alive with its attention, and no longer with what comes after.
    """
    launch, floats, head = _drafting(launch), 4 * launch.tokens, _head(model)
    attending = mask_bytes(head, launch, flash) + floats * (3 * model.embedding + attention(head, launch, flash=flash))
    feeding = floats * (2 * model.embedding + max(feed_forward(model), experts(model)))
    answering = floats * 3 * model.embedding + 4 * launch.outputs * model.logits
    return max(attending, feeding, answering) + floats * model.embedding


def _drafting(launch: Launch) -> Launch:
    k, v = launch.mtp_cache_type_k, launch.mtp_cache_type_v
    return replace(launch, mtp=False, drafted=0, cache_type_k=k, cache_type_v=v)


@lru_cache(_REMEMBERED)
def _head(model: Model) -> Model:
    """The drafting layers as a model: they attend to all cells, whatever the others do."""
    nowhere = (False,) * model.layers
    return replace(model, slides=nowhere, indexer=Indexer(nowhere), states=nowhere)


def _cache(model: Model, launch: Launch, *, on_gpu: bool) -> int:
    """All drafting layers together. They are like the last layer that has a cache."""
    last = next((n for n in reversed(range(model.layers)) if model.caches[n] and model.kv_heads[n]), None)
    if last is None:
        return 0
    rows, heads = launch.streams * launch.cells, model.kv_heads[last]
    found = cached(CACHE_TYPES[launch.cache_type_k], rows, model.key * heads, on_gpu)
    if not model.mla:
        found += cached(CACHE_TYPES[launch.cache_type_v], rows, model.value * heads, on_gpu)
    return found * (model.all_layers - model.layers)
