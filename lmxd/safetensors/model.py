"""A model directory as far as memory depends on it: what its layers keep, its tensors, its widths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lmxd.safetensors.documents import DirectoryError, Uncovered
from lmxd.safetensors.header import StoredTensor
from lmxd.safetensors.layers import KeptLayer, kept_layers
from lmxd.safetensors.settings import Settings, settings_of
from lmxd.safetensors.states import KeptState, kept_states
from lmxd.safetensors.types import method_of

_CONTEXTS: Final = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
_ALREADY_LONGER: Final = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Ways to stretch a context that its length is told with."""
_MEDIA: Final = ("vision_config", "audio_config", "visual", "mm_vision_tower", "thinker_config")
_CLASS: Final = re.compile(r"\w{1,128}", re.ASCII)
NO_TEXTS: Final[Mapping[str, Any]] = {}
_MOST_CONTEXT: Final = 2**31
_MOST_WIDTH: Final = 2**22
_PARALLEL: Final = frozenset({"intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "moe_intermediate_size"})


@dataclass(frozen=True, eq=False, slots=True)
class HfModel:
    """The facts of a model directory. ``whole``: its config.json; ``stored``: bytes of its files of weights.

    ``kept``: the layers that keep rows; ``states``: those of layers that keep one. ``context``: the most tokens that
    vLLM serves, 0 if nothing says so. ``inner``: elements of the widest feed-forward block.
    """

    whole: Mapping[str, Any]
    kind: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    context: int
    tied: bool
    quantized: str
    kept: tuple[KeptLayer, ...]
    states: tuple[KeptState, ...]
    tensors: tuple[StoredTensor, ...]

    @property
    def reads_whole(self) -> bool:
        """Whether it takes a text as a whole, as encoders do, which keep nothing."""
        return not (self.kept or self.states)

    @property
    def takes_media(self) -> bool:
        """Whether it has an encoder of pictures or sound beside its language model."""
        return any(key in self.whole for key in _MEDIA)

    @property
    def stored(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


def model_of(
    config: Mapping[str, Any], tensors: Sequence[StoredTensor], texts: Mapping[str, Any] = NO_TEXTS
) -> HfModel:
    """The model of a config.json and of the tensors of all its files. ``texts``: as of ``context_of``.

    DirectoryError if a setting cannot be; Uncovered if no formula is sure of what it takes.
    """
    if config.get("is_encoder_decoder") is True:
        raise Uncovered("models with an encoder and a decoder keep what the encoder made, which is not covered")
    settings = settings_of(config)
    encoder = settings.family is None
    return HfModel(
        whole=config,
        kind=settings.kind,
        architecture=_architecture(config),
        layers=settings.layers,
        hidden=settings.hidden,
        heads=1 if encoder else settings.heads,
        kv_heads=1 if encoder else settings.kv_heads,
        inner=_widest(settings),
        vocabulary=settings.number("vocab_size", "n_vocab", "padded_vocab_size", default=1),
        context=_context(settings, texts),
        tied=_tied(settings),
        quantized=method_of(config),
        kept=kept_layers(settings),
        states=kept_states(settings),
        tensors=tuple(tensors),
    )


def context_of(config: Mapping[str, Any], texts: Mapping[str, Any] = NO_TEXTS) -> int:
    """The most tokens that vLLM serves, 0 if nothing says so. DirectoryError, Uncovered.

    ``texts``: what a file of Sentence Transformers says of them, which counts in place of config.json.
    """
    return _context(settings_of(config), texts)


def _architecture(config: Mapping[str, Any]) -> str:
    found = config.get("architectures")
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise DirectoryError("config.json: architectures names none: vLLM does not know how to run it")
    if not _CLASS.fullmatch(found[0]):  # which people are shown
        raise DirectoryError(f"config.json: architectures has {found[0][:64]!r}, which is no name of a class")
    return found[0]


def _widest(settings: Settings) -> int:
    """Elements of the widest feed-forward block, which some kinds say for each layer."""
    said = [settings.text.get(name) for name in _PARALLEL]
    figures = [n for it in said for n in (it if isinstance(it, list) else [it]) if type(n) is int]
    return min(max(figures, default=1), _MOST_WIDTH)


def _tied(settings: Settings) -> bool:
    said = settings.text.get("tie_word_embeddings", settings.whole.get("tie_word_embeddings"))
    if said is not None and not isinstance(said, bool):
        raise DirectoryError(f"config.json: tie_word_embeddings is {said!r:.64}, not true or false")
    return said if said is not None else settings.family is not None and settings.family.tied


def _context(settings: Settings, texts: Mapping[str, Any]) -> int:
    """The longest context (vllm: config/model.py, _get_and_verify_max_len)."""
    if texts.get("max_seq_length") is not None:
        return replace(settings, text=texts).number("max_seq_length", most=_MOST_CONTEXT)
    said = [settings.number(name, most=_MOST_CONTEXT) for name in _CONTEXTS if settings.text.get(name) is not None]
    if settings.text.get("model_max_length") is not None:
        said = [settings.number("model_max_length", most=_MOST_CONTEXT)]
    longest = min(said, default=settings.family.context if settings.family else 0)
    if "gemma3" in settings.kind:
        return longest
    return int(longest * _stretch(settings))


def _stretch(settings: Settings) -> float:
    """The factor by which embeddings of positions are stretched beyond what the length says."""
    found = settings.text.get("rope_parameters") or settings.text.get("rope_scaling")
    if not isinstance(found, dict):
        return 1.0
    parts = [found, *(part for part in found.values() if isinstance(part, dict))]
    factors = [
        part.get("factor")
        for part in parts
        if part.get("rope_type", part.get("type", "default")) not in _ALREADY_LONGER
    ]
    stretched = [float(f) for f in factors if isinstance(f, (int, float)) and not isinstance(f, bool) and 0 < f < 2**20]
    return stretched[-1] if stretched else 1.0
