"""The closed form: bytes that a llama-server takes for a model, by part, on the device and on the host.

Sources, llama.cpp build 11434: weights src/llama-model.cpp:load_tensors; KV
src/llama-kv-cache.cpp and src/llama-kv-cache-iswa.cpp; compute src/llama-context.cpp:
graph_reserve, as fitted to that build's own figures (tests/gguf/data holds them). The
process's own overhead is not in here: it belongs to the machine (lmxd/estimate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmxd.gguf.header import Tensor
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.types import CACHE_TYPES, TensorType

FLASH_HEADS: Final = frozenset({40, 64, 72, 80, 96, 112, 128, 256, 512, 576})
"""Head sizes for which the CUDA backend has a flash attention kernel."""

_INPUTS: Final = frozenset({"token_embd", "position_embd", "token_types", "per_layer_token_embd"})
_ALIGN: Final = 128
_PAD: Final = 256
_INDEX_BYTES: Final = 64
"""Positions and cache indices: bytes per token of a micro-batch and cache, rounded up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What llama-server is started with. ``context`` is tokens per slot; ``gpu_layers`` None means all."""

    context: int
    slots: int = 1
    ubatch: int = 512
    batch: int = 2048
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash: str = "auto"
    gpu_layers: int | None = None
    outputs_all: bool = False
    """Embedding and reranking servers compute an output for every token of a micro-batch."""

    @property
    def cells(self) -> int:
        """KV cells of one slot."""
        return padded(self.context)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Bytes in one place."""

    weights: int = 0
    kv: int = 0
    compute: int = 0
    overhead: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute + self.overhead

    def as_dict(self) -> dict[str, int]:
        """Part -> bytes, and their ``total``."""
        parts = {"weights": self.weights, "kv": self.kv, "compute": self.compute, "overhead": self.overhead}
        return parts | {"total": self.total}


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """``device`` is empty when everything runs on the host."""

    device: Parts
    host: Parts


class Impossible(ValueError):
    """llama-server would refuse this launch."""


def padded(n: int, to: int = _PAD) -> int:
    return -(-n // to) * to


def flash_attention(model: Model, launch: Launch, *, on_gpu: bool) -> bool:
    """What ``--flash-attn auto`` comes to. Raises Impossible for a quantized V cache without it."""
    has_kernel = not on_gpu or (model.key_length in FLASH_HEADS)
    flash = launch.flash == "on" or (launch.flash == "auto" and has_kernel)
    if not flash and CACHE_TYPES[launch.cache_type_v].quantized:
        raise Impossible(f"a {launch.cache_type_v} V cache needs flash attention, which is off for this model")
    return flash


def footprint(model: Model, launch: Launch, *, on_gpu: bool) -> Footprint:
    """Bytes by place and part. Exact for weights and KV; compute is exact for a fully offloaded

    model with flash attention and an unquantized cache, else an upper bound.
    """
    flash = flash_attention(model, launch, on_gpu=on_gpu)
    first = _first_on_device(model, launch) if on_gpu else model.layers + 1
    device_weights, host_weights = _weights(model, first, on_gpu)
    kv = [_kv(model, launch, layer, flash) for layer in range(model.layers)]
    whole = _compute(model, launch, flash, on_gpu=on_gpu)
    output = 4 * launch.slots * model.vocabulary
    if not on_gpu:
        host = Parts(weights=host_weights, kv=sum(kv), compute=whole + output)
        return Footprint(device=Parts(), host=host)
    pinned = _mask(model, launch, flash) + 16 * _ubatch(launch) * model.embedding + _rotations(model, launch)
    return Footprint(
        device=Parts(
            weights=device_weights,
            kv=sum(kv[first:]),
            compute=whole + _offload_copies(model, first),
        ),
        host=Parts(
            weights=host_weights,
            kv=sum(kv[:first]),
            compute=output + (pinned if first == 0 else max(pinned, _compute(model, launch, flash, on_gpu=False))),
        ),
    )


def _first_on_device(model: Model, launch: Launch) -> int:
    """``-ngl N`` counts the output layer first: layers from here on are on the device."""
    if launch.gpu_layers is None:
        return 0
    return max(model.layers + 1 - launch.gpu_layers, 0)


def _weights(model: Model, first: int, on_gpu: bool) -> tuple[int, int]:
    """(device bytes, host bytes). Without ``output.weight`` the embeddings serve as the output, and are copied."""
    device = host = 0
    tied = not any(t.name == "output.weight" for t in model.tensors)
    for tensor in model.tensors:
        on_device = on_gpu and not _is_input(tensor) and (_layer(tensor, model) >= first)
        if on_device:
            device += _cuda_bytes(tensor)
        else:
            host += padded(tensor.nbytes, 32)
        if on_gpu and tied and tensor.name == "token_embd.weight" and model.layers >= first:
            device += _cuda_bytes(tensor)
    return device, host


def _is_input(tensor: Tensor) -> bool:
    return tensor.name.split(".", 1)[0] in _INPUTS


def _layer(tensor: Tensor, model: Model) -> int:
    """The layer that decides where a tensor goes; the output comes after the last one."""
    layer = layer_of(tensor)
    return model.layers if layer is None else layer


def _cuda_bytes(tensor: Tensor) -> int:
    """Data, rows of quantized matrices padded to 512 elements, rounded up to the buffer's alignment."""
    size, short = tensor.nbytes, tensor.shape[0] % 512
    if tensor.type.quantized and short:
        size += (512 - short) // tensor.type.block * tensor.type.size
    return padded(size, _ALIGN)


def _kv(model: Model, launch: Launch, layer: int, flash: bool) -> int:
    cells = _cells(model, launch, sliding=model.slides[layer])
    k_row = _row(CACHE_TYPES[launch.cache_type_k], model.key_length * model.kv_heads[layer])
    if model.mla:
        return launch.slots * cells * k_row
    v_heads = model.kv_heads[layer] if flash or not model.kv_heads[layer] else max(model.kv_heads)
    return launch.slots * cells * (k_row + _row(CACHE_TYPES[launch.cache_type_v], model.value_length * v_heads))


def _cells(model: Model, launch: Launch, *, sliding: bool) -> int:
    if not sliding:
        return launch.cells
    return padded(min(launch.cells, model.window + _ubatch(launch)))


def _row(kind: TensorType, n: int) -> int:
    return -(-n // kind.block) * kind.size


def _ubatch(launch: Launch) -> int:
    return min(launch.ubatch, launch.batch, launch.cells)


def _mask(model: Model, launch: Launch, flash: bool) -> int:
    cells = launch.cells + (_cells(model, launch, sliding=True) if any(model.slides) else 0)
    return _ubatch(launch) * cells * (2 if flash else 4)


def _compute(model: Model, launch: Launch, flash: bool, *, on_gpu: bool) -> int:
    """inputs + the largest of feed-forward, output and attention (the allocator's peak over the graph)."""
    ub, e = _ubatch(launch), model.embedding
    inputs = 4 * e if on_gpu else 5 * e
    outputs = ub if launch.outputs_all else launch.slots
    caches = 2 if any(model.slides) else 1
    peak = max(
        4 * ub * (inputs + _feed_forward(model)),
        4 * (4 * ub * e + outputs * model.vocabulary),
        _attention(model, launch, flash, on_gpu=on_gpu, inputs=inputs),
    )
    return _mask(model, launch, flash) + peak + _rotations(model, launch) + _INDEX_BYTES * ub * caches


def _feed_forward(model: Model) -> int:
    """Floats per token: gate, up and activation; for experts also their weighted outputs."""
    dense = 3 * max(model.feed_forward, default=0)
    if not model.experts_used:
        return dense
    used, expert = model.experts_used, model.expert_feed_forward or max(model.feed_forward, default=0)
    return max(dense, 3 * used * expert, 2 * used * model.embedding + model.embedding)


def _attention(model: Model, launch: Launch, flash: bool, *, on_gpu: bool, inputs: int) -> int:
    ub = _ubatch(launch)
    heads, kv_heads = max(model.heads, default=0), max(model.kv_heads, default=0)
    queries = heads * model.key_length
    if flash:
        return 4 * ub * (inputs + queries) + (_flash_copies(model, launch, kv_heads) if on_gpu else 0)
    plain = not (model.qk_norm or model.mla or model.experts_used)
    slack = 0 if plain else 8 * ub * queries
    keys = 2 * kv_heads * model.key_length
    return 4 * ub * (inputs + queries + keys) + 4 * heads * launch.cells * ub + slack


def _flash_copies(model: Model, launch: Launch, kv_heads: int) -> int:
    """CUDA's flash attention works on f16: one layer's K and V are copied if they are not."""
    copies = 0
    if launch.cache_type_k != "f16":
        copies += 2 * launch.slots * launch.cells * model.key_length * kv_heads
    if launch.cache_type_v != "f16" and not model.mla:
        copies += 2 * launch.slots * launch.cells * model.value_length * kv_heads
    if copies and model.qk_norm:
        copies += 8 * _ubatch(launch) * max(model.heads, default=0) * model.key_length
    return copies


def _rotations(model: Model, launch: Launch) -> int:
    """A quantized cache is rotated first: one square f32 matrix each for K and V is an input of the graph."""
    k = CACHE_TYPES[launch.cache_type_k].quantized * model.key_length**2
    v = CACHE_TYPES[launch.cache_type_v].quantized * model.value_length**2
    return 4 * (k + v)


def _offload_copies(model: Model, first: int) -> int:
    """With layers left on the host, their largest matrix is copied to the device for long prompts."""
    left = [t.nbytes for t in model.tensors if not _is_input(t) and _layer(t, model) < first and len(t.shape) > 1]
    return max(left, default=0)
