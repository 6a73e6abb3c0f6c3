"""The states that layers keep in the place of rows, or beside them: one for each request, whatever its length.

As vLLM's models say them (mamba_utils.py: MambaStateShapeCalculator): what a convolution looks back on, and what a
recurrence carries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.settings import MAX_LAYERS, Settings

ATTENDS: Final = frozenset({"full_attention", "attention"})
_RECURS: Final = frozenset({"linear_attention", "mamba", "mamba2", "conv"})
_ELSE: Final = frozenset({"mlp", "moe"})
_WIDE: Final = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class KeptState:
    """Elements of a state: those of the convolution and those of the recurrence, all ranks together.

    ``groups``: rows of the convolution that each rank needs a group of, in ``group`` elements. ``wide``: bytes of an
    element of the recurrence, 0 for those of what is computed. ``blocks``: that a request has of it where prefixes are
    cached (--mamba-cache-mode align): the present one, the one before, and of Mamba 2 one that is exported meanwhile.
    """

    convolution: int
    recurrence: int
    groups: int = 0
    group: int = 0
    wide: int = 0
    blocks: int = 2

    def size(self, ranks: int, element: int, *, wide: bool) -> int:
        """Bytes on one of ``ranks`` GPUs. ``wide``: the recurrence is in float32 anyway."""
        extra = 0 if not self.groups or self.groups % ranks == 0 else (ranks - self.groups) * self.group
        if (self.convolution + extra) % ranks or self.recurrence % ranks:
            raise DirectoryError(f"states cannot be divided by {ranks} GPUs", "choose another number of them")
        recurrence = max(self.wide or element, 4 if wide else 0)
        return (self.convolution + extra) // ranks * element + self.recurrence // ranks * recurrence


def kept_states(settings: Settings) -> tuple[KeptState, ...]:
    """The states of a model's layers; none of a model that has none. Uncovered where they are not known."""
    if settings.kind not in _STATES:
        return ()
    one = _STATES[settings.kind](settings)
    return (one,) * sum(recurs for _, recurs in mixed(settings))


def mixed(settings: Settings) -> tuple[tuple[bool, bool], ...]:
    """Of each layer of a model with states: whether it attends, and whether it recurs."""
    layers = settings.layers
    if settings.kind == "falcon_h1":
        return ((True, True),) * layers
    types = _listed(settings)
    if types is None:
        return _by_period(settings, layers)
    if len(types) > MAX_LAYERS:
        raise DirectoryError(f"config.json names the types of {len(types)} layers: {MAX_LAYERS} at most")
    if unknown := set(types) - ATTENDS - _RECURS - _ELSE:
        raise Uncovered(f"config.json: a layer of the type {sorted(unknown)[0][:64]!r} is not covered")
    return tuple((it in ATTENDS, it in _RECURS) for it in types)


def _listed(settings: Settings) -> tuple[str, ...] | None:
    """The type of each layer, where the file lists them, or those that attend, or has NVIDIA's pattern."""
    for name in ("layer_types", "layers_block_type"):
        value = settings.text.get(name)
        if isinstance(value, list):
            return settings.words(name, len(value))
    attends = settings.text.get("full_attn_idxs")
    if isinstance(attends, list):  # the older name of it, in LFM2's
        full = {layer for layer in attends if type(layer) is int}
        return tuple("full_attention" if layer in full else "conv" for layer in range(settings.layers))
    pattern = settings.text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        named = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
        return tuple(named.get(letter, letter) for letter in pattern)
    return None


def _by_period(settings: Settings, layers: int) -> tuple[tuple[bool, bool], ...]:
    if settings.kind == "jamba":
        period = settings.number("attn_layer_period", default=8)
        offset = settings.number("attn_layer_offset", default=4, least=0)
        attends = [layer % period == offset for layer in range(layers)]
    elif settings.kind in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"):
        period = settings.number("full_attention_interval", default=4)
        attends = [(layer + 1) % period == 0 for layer in range(layers)]
    else:
        raise Uncovered("config.json does not list which layers keep states (layer_types)")
    return tuple((it, not it) for it in attends)


def _delta_net(settings: Settings) -> KeptState:
    keys, values = (settings.number(f"linear_num_{it}_heads", default=n) for it, n in (("key", 16), ("value", 32)))
    key, value = (settings.number(f"linear_{it}_head_dim", default=128) for it in ("key", "value"))
    kernel = settings.number("linear_conv_kernel_dim", default=4)
    said = settings.text.get("mamba_ssm_dtype")
    return KeptState((2 * key * keys + value * values) * (kernel - 1), values * value * key, wide=_wide(said))


def _wide(said: object) -> int:
    if said is None:
        return 0
    if not isinstance(said, str) or said not in _WIDE:
        raise Uncovered(f"config.json: states in {said!r:.64} are not covered")
    return _WIDE[said]


def _mamba2(settings: Settings) -> KeptState:
    """Of Falcon H1 and Granite 4."""
    heads, head = settings.number("mamba_n_heads", default=128), settings.number("mamba_d_head", default=64)
    inner = settings.number("mamba_d_ssm", default=settings.number("mamba_expand", default=2) * settings.hidden)
    state, groups = settings.number("mamba_d_state", default=256), settings.number("mamba_n_groups", default=1)
    return _second(inner, heads * head, state, groups, settings.number("mamba_d_conv", default=4))


def _nemotron(settings: Settings) -> KeptState:
    heads, head = settings.number("mamba_num_heads", default=128), settings.number("mamba_head_dim", default=64)
    state, groups = settings.number("ssm_state_size", default=128), settings.number("n_groups", default=8)
    wide = _wide(settings.text.get("mamba_ssm_cache_dtype", "float32"))
    return _second(heads * head, heads * head, state, groups, settings.number("conv_kernel", default=4), wide)


def _second(inner: int, heads: int, state: int, groups: int, kernel: int, wide: int = 0) -> KeptState:
    rows = kernel - 1
    return KeptState((inner + 2 * groups * state) * rows, heads * state, groups, 2 * state * rows, wide, blocks=3)


def _mamba1(settings: Settings) -> KeptState:
    inner = settings.number("mamba_expand", default=2) * settings.hidden
    rows = settings.number("mamba_d_conv", default=4) - 1
    return KeptState(inner * rows, inner * settings.number("mamba_d_state", default=16))


def _convolution(settings: Settings) -> KeptState:
    """Of LFM2, which has no more."""
    width = settings.number("conv_dim", default=settings.hidden)
    return KeptState(width * (settings.number("conv_L_cache", default=3, least=2) - 1), 0)


_STATES: Final[dict[str, Callable[[Settings], KeptState]]] = {
    "qwen3_next": _delta_net,
    "qwen3_5_text": _delta_net,
    "qwen3_5_moe_text": _delta_net,
    "falcon_h1": _mamba2,
    "granitemoehybrid": _mamba2,
    "nemotron_h": _nemotron,
    "jamba": _mamba1,
    "lfm2": _convolution,
    "lfm2_moe": _convolution,
}
WITH_STATES: Final = frozenset(_STATES)
