"""The compute buffers: the inputs of the graph and the most that is alive at once while it runs.

llama.cpp reserves them for the largest micro-batch (src/llama-context.cpp:graph_reserve) with an
allocator that reuses what is no longer needed (ggml-alloc.c), so a buffer is the largest of its moments
and not their sum. The moments below were found by comparing with what build 11434 prints, for over 140
architectures (bench/estimator.py repeats it). All are counted in floats per token of a micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmxd.gguf.architectures import BY_BLOCKS, COMPRESSED, ENCODING
from lmxd.gguf.builds import Build
from lmxd.gguf.cache import cells
from lmxd.gguf.compressed import rows
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.moments import attention, beside, copying, experts, feed_forward, recurrent
from lmxd.gguf.overrides import stays_in_ram
from lmxd.gguf.types import CACHE_TYPES

_INDEX_BYTES: Final = 64
"""Positions and cache indices: bytes per token of a micro-batch and cache, rounded up."""

_PARALLEL: Final = frozenset({"cohere2", "cohere2moe", "command-r", "falcon", "gptneox", "phi2", "plamo", "stablelm"})
"""Attention and feed-forward side by side: what attention needs stays while the feed-forward runs."""

_ALL_OUTPUTS: Final = frozenset({"cogvlm", "t5"})
"""Logits of every token, whether they are asked for or not."""

_UNMIXED: Final = frozenset({"graniteswitch"})
"""A batch is either of tokens or of embeddings: there is no copy to mix them in (llm_arch_supports_mixed_batch)."""
_NO_FLASH: Final = frozenset({"grok"})
_FLASH_HEADS: Final = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
_FLASH_PAIRS: Final = {(192, 128): 8, (320, 256): 32, (512, 512): 2, (576, 512): 2}
"""Head sizes of K and V for which CUDA has a kernel (fattn.cu) -> query heads per KV head that it needs."""

_LEAST_ROTATION: Final = 64
_PIPELINE_COPIES: Final = 4
"""GGML_SCHED_MAX_COPIES: of the inputs of each device, where several work in a pipeline."""


@dataclass(frozen=True, slots=True)
class Compute:
    """The bytes of the compute buffers: of each device, and of the host (pinned beside devices)."""

    devices: tuple[int, ...]
    host: int


def compute(
    model: Model, launch: Launch, build: Build, *, flash: bool, devices: int, whole: bool, left: int
) -> Compute:
    """The buffers of a launch on so many devices; ``left`` is the largest matrix that stays on the host."""
    ub, e = launch.tokens, model.embedding
    if not devices:
        return Compute((), _single(model, launch, build, flash=flash, on_gpu=False))
    first = _single(model, launch, build, flash=flash, on_gpu=True)
    mask, inputs = mask_bytes(model, launch, flash), 4 * ub * e * build.gpu_inputs
    peak = first - mask - inputs
    pipelined = devices > 1 and whole and launch.cache_on_device and not launch.overrides
    if pipelined:
        first, rest, host = (
            part + _PIPELINE_COPIES * mask + 4 * ub * e * times
            for part, times in zip((peak, peak, 0), build.pipeline, strict=True)
        )
    else:
        rest, host = peak + mask + 8 * ub * e, mask + inputs
    if left and launch.op_offload:
        beside_copy = first - peak + 4 * ub * copying(model, divided=_divides_experts(model, launch)) + left
        first = max(first, beside_copy) if copies_experts(model, launch) else first + left
    if not whole and not launch.op_offload:
        host = max(host, _single(model, launch, build, flash=flash, on_gpu=False))
    return Compute((first, *(rest,) * (devices - 1)), host)


def copies_experts(model: Model, launch: Launch) -> bool:
    """Returns whether only experts stay in RAM: one matrix at a time is copied, and not while most is alive."""
    every_layer = launch.gpu_layers is None or launch.gpu_layers > model.all_layers
    return bool(launch.overrides) and every_layer and copying(model) > 0


def _divides_experts(model: Model, launch: Launch) -> bool:
    """Returns whether a layer has some of its experts in RAM, and some on a device."""
    in_ram = stays_in_ram(launch.overrides)
    places: dict[int | None, set[bool]] = {}
    for tensor in model.tensors if launch.overrides else ():
        if "_exps." in tensor.name:
            places.setdefault(layer_of(tensor), set()).add(in_ram(tensor.name))
    return any(len(each) > 1 for each in places.values())


def flash_attention(model: Model, launch: Launch, *, on_gpu: bool) -> bool:
    """The value of ``--flash-attn auto``: on where the device can, or where a quantized V cache needs it."""
    if launch.flash == "off" or model.arch in _NO_FLASH:
        return False
    attends_on_gpu = on_gpu and (launch.gpu_layers is None or launch.gpu_layers > 1)  # the first is the output
    return launch.flash == "on" or launch.quantized_v or not attends_on_gpu or has_flash_kernel(model)


def has_flash_kernel(model: Model) -> bool:
    """Returns whether CUDA has a kernel for every layer that caches; without one the CPU would do it."""
    return all(
        _has_kernel(model, layer) for layer in range(model.layers) if model.caches[layer] and model.kv_heads[layer]
    )


def _has_kernel(model: Model, layer: int) -> bool:
    key, value = model.key_length(layer), model.value_length(layer)
    if key == value and key in _FLASH_HEADS:
        return True
    grouped = model.heads[layer] // model.kv_heads[layer]
    needed = _FLASH_PAIRS.get((key, value))
    return needed is not None and grouped >= 2 and grouped % needed == 0


def mask_bytes(model: Model, launch: Launch, flash: bool) -> int:
    """The bytes of the mask of which token sees which: tokens by cells, f16 with flash attention and f32 without."""
    if model.arch in COMPRESSED:
        width = cells(model, launch, sliding=True) + rows(launch, 4)
    elif model.attends_cache:
        sliding = cells(model, launch, sliding=True) if any(model.slides) else 0
        width = launch.cells + sliding
    else:
        width = 0 if any(model.states) else launch.tokens * (2 if any(model.slides) else 1)
    width += model.context if model.arch in ENCODING else 0
    width += launch.cells if model.indexer and model.arch not in BY_BLOCKS | COMPRESSED else 0
    return launch.tokens * width * (2 if flash else 4)


def _single(model: Model, launch: Launch, build: Build, *, flash: bool, on_gpu: bool) -> int:
    """One device, or the host alone: inputs and mask, and the largest moment."""
    ub, e = launch.tokens, model.embedding
    inputs = e * (build.gpu_inputs if on_gpu else build.host_inputs - (2 if model.arch in _UNMIXED else 0))
    if "position_embd.weight" in model.shapes and on_gpu:
        inputs -= e
    inputs += beside(model, on_gpu=on_gpu)
    scratch = _flash_scratch(model, launch) if flash and on_gpu and has_flash_kernel(model) else 0
    block, held = max(feed_forward(model), experts(model)), 0
    if model.arch in _PARALLEL:
        ungated = "blk.0.ffn_gate.weight" not in model.shapes and "blk.0.ffn_gate_exps.weight" not in model.shapes
        block += e if ungated or model.arch == "cohere2" else 0
        held = scratch + (4 * ub * max(model.heads) * model.key if scratch and launch.quantized_v else 0)
    outputs = ub if model.arch in _ALL_OUTPUTS else launch.outputs
    peak = max(
        4 * ub * (inputs + block) + held,
        4 * (4 * ub * e + outputs * model.logits),
        4 * ub * (inputs + attention(model, launch, flash=flash)) + scratch,
        4 * ub * inputs + recurrent(model, launch, on_gpu=on_gpu),
    )
    caches = 2 if any(model.slides) else 1
    encoded = 4 * e * model.context if model.arch in ENCODING else 0
    return mask_bytes(model, launch, flash) + peak + encoded + _rotations(model, launch) + _INDEX_BYTES * ub * caches


def _flash_scratch(model: Model, launch: Launch) -> int:
    """CUDA's flash attention works on f16: K and V of the widest layer are copied if they are not."""
    if not model.attends_cache:
        return 0
    rows, found = launch.streams * launch.cells, 0
    for layer, heads in enumerate(model.kv_heads):
        k = 2 * rows * model.key_length(layer) * heads if launch.cache_type_k != "f16" else 0
        v = 2 * rows * model.value_length(layer) * heads if launch.cache_type_v != "f16" and not model.mla else 0
        found = max(found, k + v)
    if found and model.mla:  # beside it the result of every head, before it is made smaller again
        found += 4 * launch.tokens * max(model.heads) * model.value
    return found


def _rotations(model: Model, launch: Launch) -> int:
    """A quantized cache is rotated first: a square f32 matrix each for K and V is an input of the graph.

    That of K is the largest power of two that divides a head, that of V of 64 (llama-kv-cache.cpp: n_rot_k, n_rot_v).
    """
    if not model.attends_cache:
        return 0
    k = _power_of_two(model.key) if CACHE_TYPES[launch.cache_type_k].quantized else 0
    v = _LEAST_ROTATION if launch.quantized_v and not model.mla and model.value % _LEAST_ROTATION == 0 else 0
    indexer = _power_of_two(model.indexer.key) if model.indexer and model.mla else 0
    return 4 * (k**2 + v**2 + indexer**2)


def _power_of_two(head: int) -> int:
    """The largest power of two that divides a head; 0 if less than what is rotated at least."""
    found = head & -head
    return found if found >= _LEAST_ROTATION else 0
