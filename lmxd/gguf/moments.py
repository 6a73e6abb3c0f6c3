"""The moments at which most is alive, by kind of block: floats per token of a micro-batch, beside the inputs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from lmxd.gguf.architectures import BY_BLOCKS, COMPRESSED, ENCODING
from lmxd.gguf.cache import cells, rolled_back
from lmxd.gguf.compressed import rows
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

_RESIDUALS: Final = {"hy_v4": 8}
"""Copies of a token's embedding that stay beside a layer with several residual streams."""
_DECAYING: Final = frozenset({"minimax-01"})
"""Attention without a cache, to the micro-batch itself: a matrix of tokens by tokens for each head is an input."""
_REMEMBERED: Final = 64
"""Models whose widths are kept: looking through all tensors takes longer than the rest of an estimate."""


@lru_cache(_REMEMBERED)
def feed_forward(model: Model) -> int:
    """The widest dense block, or block of shared experts: gate, up and activation."""
    return max(
        (
            _block(model, f"blk.{layer}.ffn_{{}}{kind}.weight")
            for layer in range(model.layers)
            for kind in ("", "_shexp")
        ),
        default=0,
    )


def _block(model: Model, name: str) -> int:
    """Without a gate the activation replaces what it came from."""
    down, up = model.shapes.get(name.format("down")), model.shapes.get(name.format("up"))
    if down is None:
        return 0
    gated = name.format("gate") in model.shapes or (up is not None and up.shape[-1] == 2 * down.shape[0])
    return (3 if gated else 1) * down.shape[0]


@lru_cache(_REMEMBERED)
def experts(model: Model) -> int:
    """The experts used by a token: gate, up and activation, or their outputs and the weighted ones."""
    used, e, widest = model.experts_used, model.embedding, _widest_expert(model)
    if not widest or not used:
        return 0
    gated = any(".ffn_gate_exps." in name or ".ffn_gate_up_exps." in name for name in model.shapes)
    if not gated:
        return used * widest + used * e
    return max(3 * used * widest, 2 * used * e + (e if used > 2 else 0))


@lru_cache(_REMEMBERED)
def copying(model: Model, *, divided: bool = False) -> int:
    """The most that is alive beside a matrix of experts that is copied to a device; 0 without experts.

    That is less than the most of all: gate and up are there, or what came of them and the outputs. In a layer that is
    ``divided``, of whose experts the device has some, all of these are.
    """
    widest = _widest_expert(model)
    alive = (3 if divided else 1) * widest + max(widest, model.embedding)
    return model.experts_used * alive if widest else 0


def _widest_expert(model: Model) -> int:
    return max((t.shape[0] for name, t in model.shapes.items() if name.endswith("ffn_down_exps.weight")), default=0)


@lru_cache(_REMEMBERED)
def beside(model: Model, *, on_gpu: bool) -> int:
    """The floats that stay through all layers beside the inputs, as gemma4's embeddings of every layer."""
    if model.arch == "hrm_text":  # what the other of its two stacks works on
        return model.embedding
    table = model.shapes.get("per_layer_token_embd.weight")
    if table is None:
        return 0
    if any(name.startswith("altup_proj") for name in model.shapes):
        return table.shape[0] + 5 * model.embedding
    return table.shape[0] + (0 if on_gpu else 2 * model.embedding)


def attention(model: Model, launch: Launch, *, flash: bool) -> int:
    """Queries; without flash attention also keys, values, and scores of every head for every cell."""
    if not model.attends_cache and any(model.states):
        return 0
    heads, kv_heads = max(model.heads, default=0), max(model.kv_heads, default=0)
    queries = heads * max(model.key, model.key_sliding)
    seen = launch.cells if model.attends_cache else launch.tokens
    scores = 0 if flash else heads * seen
    if model.arch in COMPRESSED:
        return _compressed(model, launch, flash=flash)
    if model.indexer and model.arch not in BY_BLOCKS:
        return _indexed(model, launch, flash=flash) + scores
    if model.arch in ENCODING:
        return (3 * heads + 2) * seen
    if model.arch == "t5encoder":  # distances between tokens, scores, and what is made of them
        return model.embedding + (3 * heads + 1) * launch.tokens
    if model.mla:
        return queries + heads * (model.value + model.head_of_mla) + scores
    if flash:
        return queries + (_by_blocks(model, launch) if model.indexer else 0)
    uneven = model.qk_norm or model.experts_used or any(model.slides)
    slack = 2 * queries if uneven and queries > model.embedding else 0
    decays = heads * launch.tokens if model.arch in _DECAYING else 0
    return queries + 2 * kv_heads * max(model.key, model.key_sliding) + scores + slack + decays


def _indexed(model: Model, launch: Launch, *, flash: bool) -> int:
    """Where an indexer chooses the cells: its own queries while it does, the mask that it makes afterwards."""
    heads, indexer = max(model.heads, default=0), model.indexer
    streams = model.embedding * _RESIDUALS.get(model.arch, 0)
    chosen = 8 * min(indexer.most, launch.cells)
    alone = not any(model.slides)
    masks = chosen + launch.cells * alone if flash else launch.cells * (5 if alone else 3) // 2
    masked = heads * (2 * model.key + model.head_of_mla) + masks
    asked = (1 + alone) * indexer.heads * indexer.key
    searching = heads * model.key + asked + 2 * indexer.most + chosen
    return streams + max(searching if flash else 0, masked)


def _compressed(model: Model, launch: Launch, *, flash: bool) -> int:
    """Residual streams, queries of attention and indexer, and what that chooses of the rows."""
    heads, indexer, kept = max(model.heads), model.indexer, rows(launch, 4)
    seen = 0 if flash else heads * (cells(model, launch, sliding=True) + kept)
    asked = 2 * indexer.heads * indexer.key + 8 * min(indexer.most, kept)
    return 7 * model.embedding + heads * model.key + asked + seen


def _by_blocks(model: Model, launch: Launch) -> int:
    """A score of each cell for each head of the indexer, twice, and the mask in f32; all slots attend to all in one."""
    if launch.unified and launch.slots > 1:
        return 0
    return launch.cells * (-(-2 * model.indexer.heads // launch.streams) + 1)


def recurrent(model: Model, launch: Launch, *, on_gpu: bool) -> int:
    """Bytes of a recurrent block, and of the states of all slots that pass through it."""
    if not any(model.states):
        return 0
    floats, states = _recurrent_floats(model, on_gpu), launch.slots
    if _is_delta_net(model) and launch.slots > 1:
        states *= 2
    if kept := rolled_back(model, launch):
        states += launch.slots * (kept + 1)
    if model.arch in _DECAYING:
        floats += max(model.heads) * (4 * model.key + 3 * launch.tokens)
    return 4 * launch.tokens * floats + 4 * states * model.state_width


def _is_delta_net(model: Model) -> bool:
    return model.arch in {"qwen3next", "qwen35", "qwen35moe"}


@lru_cache(_REMEMBERED)
def _recurrent_floats(model: Model, on_gpu: bool) -> int:
    inner, state, conv = model.ssm_inner, model.ssm_state, model.ssm_conv
    match model.arch:
        case "qwen35" | "qwen35moe":
            return 2 * conv
        case "qwen3next":
            return 2 * conv + inner + inner // 2
        case "plamo2":
            return 5 * inner
        case "rwkv6" | "rwkv6qwen2":
            return 10 * model.embedding
        case "rwkv7":
            return 15 * model.embedding
        case "arwkv7":
            return 13 * model.embedding
    if "blk.0.ssm_x.weight" in model.shapes or any(n.endswith(".ssm_x.weight") for n in model.shapes):
        return 4 * inner + model.ssm_dt + 2 * state if on_gpu else 5 * inner
    if inner:
        projected = next((t.shape[1] for n, t in model.shapes.items() if n.endswith(".ssm_in.weight")), 2 * inner)
        both = model.embedding if model.arch == "falcon-h1" else 0
        return projected + 2 * conv + inner + (0 if on_gpu else both)
    return 0
