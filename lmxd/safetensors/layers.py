"""Rows that each layer of a model keeps of the tokens before, as vLLM's layers say it (get_kv_cache_spec)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.families import Keeps, Slides
from lmxd.safetensors.settings import Settings
from lmxd.safetensors.states import WITH_STATES, mixed

_SLIDING: Final = "sliding_attention"
_KNOWN_TYPES: Final = frozenset({_SLIDING, "full_attention"})
_LAYER: Final = re.compile("[0-9]{1,6}")


class Sees(Enum):
    """The tokens before that a layer attends to."""

    EVERYTHING = "everything"
    STATE = "what a state has of them"
    WINDOW = "the last ones"
    CHUNK = "those of its own chunk"


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """The rows that a layer keeps: ``heads`` of ``width`` elements for each token, keys and values together.

    ``reach``: tokens of the window or chunk, 0 where it sees everything. ``latent``: one row for all heads and ranks.
    """

    heads: int
    width: int
    sees: Sees = Sees.EVERYTHING
    reach: int = 0
    latent: bool = False

    def elements(self, ranks: int) -> int:
        """Elements for each token on one of ``ranks``. DirectoryError if its heads cannot be divided so."""
        if self.heads >= ranks and self.heads % ranks == 0:
            return self.heads // ranks * self.width
        if self.heads < ranks and ranks % self.heads == 0:  # each rank has a copy of one head
            return self.width
        raise DirectoryError(
            f"{self.heads} heads of keys cannot be divided by {ranks} GPUs", "choose another number of them"
        )


def kept_layers(settings: Settings) -> tuple[KeptLayer, ...]:
    """The layers of a model that keep rows. Uncovered where that is not known."""
    if settings.family is None:
        return ()
    match settings.rules.keeps:
        case Keeps.LATENT if settings.text.get("kv_lora_rank") is not None:
            return _latent(settings)
        case Keeps.CHUNKS:
            return _chunks(settings)
        case Keeps.SHARED:
            return _shared(settings)
    layer = KeptLayer(settings.kv_heads, 2 * settings.head)
    if settings.kind in WITH_STATES:
        return (layer,) * sum(attends for attends, _ in mixed(settings))
    return _overridden(settings, tuple(_sliding(layer, reach) for reach in reaches(settings)))


def _sliding(layer: KeptLayer, reach: int) -> KeptLayer:
    return KeptLayer(layer.heads, layer.width, Sees.WINDOW, reach) if reach else layer


def _overridden(settings: Settings, layers: tuple[KeptLayer, ...]) -> tuple[KeptLayer, ...]:
    """The layers with the heads that ``per_layer_config`` gives some of them (transformers from 5.15 on)."""
    own = settings.text.get("per_layer_config")
    if not isinstance(own, dict):
        return layers
    found = list(layers)
    for name, changed in own.items():
        if not _LAYER.fullmatch(name) or not int(name) < settings.layers or not isinstance(changed, dict):
            raise DirectoryError(f"config.json: per_layer_config has {name[:64]!r}, which is no layer")
        if int(name) < len(found):
            its = replace(settings, text={**settings.text, **changed})
            found[int(name)] = replace(found[int(name)], heads=its.kv_heads, width=2 * its.head)
    return tuple(found)


def reaches(settings: Settings) -> tuple[int, ...]:
    """Tokens of the window of each layer, 0 for all: by its type, or one for all (vLLM's CacheConfig.sliding_window).

    A window for all layers holds only where none has another type.
    """
    layers, window, rules = settings.layers, settings.window, settings.rules
    types = types_of(settings, window)
    everywhere = window if types is None or set(types) == {_SLIDING} else 0
    if types is not None and len(set(types)) > 1 and not rules.by_layer:
        raise DirectoryError(
            "config.json: a window for some layers but not all: vLLM refuses that of this kind of model"
        )
    if not window or types is None or not rules.by_layer:
        return (everywhere,) * layers
    return tuple(window + rules.beyond if kind == _SLIDING else everywhere for kind in types)


def types_of(settings: Settings, window: int) -> tuple[str, ...] | None:
    """The type of each layer: as listed, else as transformers fills it in for the kind; None if it does not."""
    layers = settings.layers
    listed = settings.words("layer_types", layers)
    if listed is not None:
        if unknown := set(listed) - _KNOWN_TYPES:
            raise Uncovered(f"config.json: layer_types has {sorted(unknown)[0][:64]!r}, which is not covered")
        return listed
    return _filled_in(settings, layers, window)


def _filled_in(settings: Settings, layers: int, window: int) -> tuple[str, ...] | None:
    rules = settings.rules
    match rules.slides:
        case Slides.LAST_FULL:
            period = _period(settings)
            full = [(layer + 1) % period == 0 if period else False for layer in range(layers)]
        case Slides.FIRST_FULL:
            full = [layer % rules.period == 0 for layer in range(layers)]
        case Slides.AFTER:
            first = settings.number("max_window_layers", default=28, least=0)
            full = [not window or layer < first for layer in range(layers)]
        case Slides.WITHOUT_ROPE:
            full = [not window or rotary for rotary in _rotary(settings, layers)]
        case Slides.ALL if rules.by_layer:
            full = [not window] * layers
        case _:
            return None
    return tuple("full_attention" if it else _SLIDING for it in full)


def _period(settings: Settings) -> int:
    """Every so many layers one sees everything, as the older names of it have it."""
    names = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
    return settings.number(*names, default=settings.rules.period, least=0)


def _rotary(settings: Settings, layers: int) -> list[bool]:
    """The layers that have rotary embeddings."""
    listed = settings.text.get("no_rope_layers")
    if isinstance(listed, list) and listed:
        if len(listed) < layers or any(it not in (0, 1) for it in listed):
            raise DirectoryError(f"config.json: no_rope_layers is {listed!r:.64}, not {layers} times 0 or 1")
        return [bool(it) for it in listed[:layers]]
    every = settings.number("no_rope_layer_interval", default=4)
    return [(layer + 1) % every != 0 for layer in range(layers)]


def _latent(settings: Settings) -> tuple[KeptLayer, ...]:
    """One row for keys and values of all heads (vLLM: MLAAttentionSpec)."""
    for name in ("index_topk", "compress_ratios"):
        if settings.text.get(name) is not None:
            raise Uncovered(f"config.json: models with {name} keep more than their rows, which is not covered")
    width = settings.number("kv_lora_rank") + settings.number("qk_rope_head_dim", default=64)
    return (KeptLayer(1, width, latent=True),) * settings.layers


def _chunks(settings: Settings) -> tuple[KeptLayer, ...]:
    """Layers without rotary embeddings see everything, others their chunk (vLLM: llama4.py)."""
    size = settings.number("attention_chunk_size", default=8_192)
    heads, width = settings.kv_heads, 2 * settings.head
    return tuple(
        KeptLayer(heads, width, Sees.CHUNK, size) if rotary else KeptLayer(heads, width)
        for rotary in _rotary(settings, settings.layers)
    )


def _shared(settings: Settings) -> tuple[KeptLayer, ...]:
    """The last layers have the keys of earlier ones; those that see everything may have wider heads (gemma4.py)."""
    default = 15 if settings.kind == "gemma3n_text" else 0
    own = settings.layers - settings.number("num_kv_shared_layers", default=default, least=0)
    if own < 0:
        raise DirectoryError("config.json: num_kv_shared_layers is more than there are layers")
    heads, head = settings.kv_heads, settings.head
    full_head, full_heads = head, heads
    if settings.kind == "gemma4_text" and "per_layer_config" not in settings.text:
        full_head = settings.number("global_head_dim", default=512)
        if settings.truth("attention_k_eq_v", default=False):
            full_heads = settings.number("num_global_key_value_heads", default=heads)
    everything = KeptLayer(full_heads, 2 * full_head)
    kept = [_sliding(KeptLayer(heads, 2 * head), reach) if reach else everything for reach in reaches(settings)[:own]]
    return _overridden(settings, tuple(kept))
