"""The bytes that vLLM takes for a model on each of its GPUs, or in RAM: weights, cache, and what computing needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.model import HfModel
from lmxd.safetensors.pool import BlockPool, Blocks, pool_of
from lmxd.safetensors.types import COMPUTED, computed, doubt, kept
from lmxd.safetensors.weights import LoadedAs, loaded

_REMEMBERED: Final = 64
_weighed: dict[tuple[HfModel, int, int], int] = {}
"""The bytes of weights by model, bytes of an element that is computed, and GPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedLaunch:
    """The settings of a vLLM that decide about its memory.

    ``context``: of one request (--max-model-len). ``kv_tokens``: what the cache has to hold; 0: ``context`` for each of
    ``sequences``. ``batched``: tokens that are computed at once. ``batches``: how many such batches are on their way
    (2 on a GPU from 0.32 on). ``block``: tokens of a block, ``kernel``: of the smallest that kernels take. ``ranks``:
    GPUs that it is divided over. ``wide_states``: states are in float32 whatever is computed in.
    """

    context: int
    sequences: int = 1
    kv_tokens: int = 0
    batched: int = 2048
    batches: int = 1
    dtype: str = "auto"
    kv_dtype: str = "auto"
    quantization: str = ""
    block: int = 16
    kernel: int = 16
    ranks: int = 1
    eager: bool = False
    wide_states: bool = False

    def __post_init__(self) -> None:
        assert min(self.context, self.sequences, self.batched, self.batches, self.block, self.ranks) >= 1, self

    @property
    def tokens(self) -> int:
        """Tokens that the cache has to hold."""
        return self.kv_tokens or self.context * self.sequences

    @property
    def in_flight(self) -> int:
        """Tokens that may be computed before what left a window is given back."""
        return self.batched * self.batches


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedMemory:
    """The bytes on each GPU, by part. ``kv`` is what --kv-cache-memory-bytes has to say.

    ``work``: what a batch needs while it is computed, a prior; ``doubt``: by how much weights may be more.
    ``shown``: the tokens that vLLM says its cache has.
    """

    weights: int
    kv: int
    work: int
    doubt: int
    shown: int


def memory(model: HfModel, launch: ServedLaunch) -> ServedMemory:
    """The bytes of a launch. DirectoryError if vLLM would refuse it; Uncovered where no formula is sure."""
    _check(model, launch)
    element = computed(launch.dtype)
    weights = _weights(model, launch)
    pool = pool_for(model, launch)
    blocks = pool.blocks_for(launch.tokens, launch.context, launch.in_flight)
    if max(weights, blocks * pool.size) >= _MOST:
        raise DirectoryError(
            "weights or cache would take more bytes than any machine has",
            "ask for less, or fetch the model again: config.json cannot be right",
        )
    return ServedMemory(
        weights=weights,
        kv=blocks * pool.size or _LEAST_KV,
        work=_work(model, launch, element),
        doubt=weights * doubt(model.quantized) // 100,
        shown=pool.tokens(blocks, launch.context, launch.in_flight),
    )


def pool_for(model: HfModel, launch: ServedLaunch) -> BlockPool:
    """The pool of blocks of a launch, on each of its GPUs."""
    element = computed(launch.dtype)
    how = Blocks(
        ranks=launch.ranks,
        element=kept(launch.kv_dtype, model.whole, element),
        tokens=launch.block,
        kernel=launch.kernel,
        wide=launch.wide_states,
    )
    return pool_of(model.kept, how, model.states, element)


def tokens_in(model: HfModel, launch: ServedLaunch, kv: int) -> int:
    """The tokens that vLLM says a cache of ``kv`` bytes has; 0 if not one request fits."""
    pool = pool_for(model, launch)
    if not pool.groups:
        return 0
    blocks = kv // pool.size
    if blocks <= pool.blocks(launch.context, launch.in_flight):
        return 0
    return pool.tokens(blocks, launch.context, launch.in_flight)


def is_weighed(model: HfModel, launch: ServedLaunch) -> bool:
    """Whether ``memory`` takes no time: the tensors of the model were added up for such a launch before."""
    return (model, COMPUTED.get(launch.dtype), launch.ranks) in _weighed


def _weights(model: HfModel, launch: ServedLaunch) -> int:
    """The bytes of the weights on each GPU, remembered: to add up 100,000 tensors takes a second."""
    element = computed(launch.dtype)
    key = model, element, launch.ranks
    if key not in _weighed:
        how = LoadedAs(
            element=element,
            layers=model.layers,
            heads=model.heads,
            kv_heads=model.kv_heads,
            tied=model.tied,
            ranks=launch.ranks,
        )
        found = loaded(model.tensors, how)
        if len(_weighed) >= _REMEMBERED:
            _weighed.clear()
        _weighed[key] = found
    return _weighed[key]


def _check(model: HfModel, launch: ServedLaunch) -> None:
    """DirectoryError for what vLLM itself refuses."""
    if launch.context > model.context > 0:
        raise DirectoryError(
            f"a context of {launch.context} tokens is more than the {model.context} that config.json says",
            "ask for less",
        )
    if launch.kv_tokens and launch.kv_tokens < launch.context:
        raise DirectoryError(
            f"{launch.kv_tokens} tokens of cache (kv_tokens) hold no request of {launch.context} (context_length)",
            "raise the one or lower the other",
        )
    if model.heads % launch.ranks and model.kept:
        raise DirectoryError(f"{model.heads} heads cannot be divided by {launch.ranks} GPUs", "choose another number")
    if launch.quantization and not model.quantized:
        raise Uncovered(f"weights that are quantized while they are loaded (--quantization {launch.quantization:.64})")


_MOST: Final = 2**60
"""Bytes. Every number on the wire is below 2^64, and sums of these are."""
_LEAST_KV: Final = 2**21
"""Bytes that are said where nothing is kept: vLLM takes 0 for not said, and measures then what there is."""
_FLOAT: Final = 4
_WIDTHS_AT_ONCE: Final = 4
"""Hidden widths that are alive beside the widest block: residual, normed, queries, output."""
_LOGITS_AT_ONCE: Final = 3
"""Copies of the logits of all sequences in float32 while they are sampled from."""


def _work(model: HfModel, launch: ServedLaunch, element: int) -> int:
    """A prior, which was compared with nothing on a GPU: the widest moment of a batch, sampling, and rotary tables.

    Gate and up together, and their product; the logits of one token for each sequence, as vLLM's warming up asks for.
    """
    alive = 3 * -(-model.inner // launch.ranks) + _WIDTHS_AT_ONCE * model.hidden
    layers = launch.batched * element * alive
    logits = launch.sequences * model.vocabulary * _FLOAT * _LOGITS_AT_ONCE
    tables = model.context * element * (model.hidden // model.heads)
    return max(layers, logits) + tables
