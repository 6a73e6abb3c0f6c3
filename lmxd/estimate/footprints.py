"""A launch's bytes: the closed form of lmxd/gguf, plus what goes with the model, plus what the process itself takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from lmxd.errors import LmxdError
from lmxd.estimate import contexts, overhead
from lmxd.estimate.backends import Backend
from lmxd.estimate.contexts import ProcessContext
from lmxd.estimate.extras import NO_EXTRAS, Extras, added, fetched_beside
from lmxd.estimate.learned import NOTHING_LEARNED, Card, Learned
from lmxd.estimate.overhead import MIB
from lmxd.gguf.builds import LATEST, Build
from lmxd.gguf.compute import copies_experts, flash_attention
from lmxd.gguf.drafting import why_not_with
from lmxd.gguf.footprint import Footprint, Impossible, footprint
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model

DEFAULT_CONTEXT: Final = 4096
"""Tokens of a slot where nobody says how many: as much as most prompts need."""

Basis = str
CLOSED_FORM: Final[Basis] = "closed-form"
DRY_RUN: Final[Basis] = "dry-run"
OBSERVED: Final[Basis] = "observed"
DECLARED: Final[Basis] = "declared"

_ERROR: Final = 24 * MIB
"""Of a whole launch with flash attention on a measured card: p100 of bench/estimator.py."""

_SURE: Final = 64 * MIB
_SURE_SHARE: Final = 100
"""A figure is sure within the larger of 64 MiB and a hundredth: the accuracy that docs/accuracy.md shows."""
UNVERIFIED: Final = frozenset({"plm"})
"""Architectures whose compute buffers were compared with nothing: llama-server of build 11434 does not load them."""
ONLY_IN_RAM: Final = frozenset(
    """afmoe bailingmoe3 cogvlm deepseek2-ocr deepseek4 dots3note falcon-h1 glm-dsa hy_v4 jamba kimi-k3 laguna
    minicpm3 minimax-01 minimax-m3 nemotron_h plamo2 t5 t5encoder""".split()
)
"""Architectures whose compute buffers are as the closed form has them in RAM, and on a card unknown or not always."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The bytes of a launch by place and part, where they come from, and plus or minus how much.

    ``uncertain`` is the part of the error that is about llama-server's own buffers: what a second
    opinion could settle. ``contexts``: of the process on each device, as they are in its overhead; none if observed.
    """

    basis: Basis
    parts: Footprint
    error: int
    uncertain: int = 0
    contexts: tuple[ProcessContext, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def device(self) -> int:
        """The bytes on the one device; the most of any if there are several."""
        return max((device.total for device in self.parts.devices), default=0)

    @property
    def host(self) -> int:
        return self.parts.host.total

    @property
    def known(self) -> bool:
        """Returns whether it is computed and sure, or the engine itself was asked or observed."""
        return self.sure or self.basis != CLOSED_FORM

    @property
    def sure(self) -> bool:
        """Returns whether the buffers are known to 1 % or 64 MiB, whichever is larger."""
        return self.uncertain <= max(_SURE, (self.device or self.host) // _SURE_SHARE)


def estimate(
    model: Model,
    launch: Launch,
    cards: Sequence[Card] = (),
    *,
    extras: Extras = NO_EXTRAS,
    build: Build = LATEST,
    learned: Learned = NOTHING_LEARNED,
    file: str = "",
) -> Estimate:
    """The bytes that a llama-server takes for ``launch`` on ``cards``; without any: in RAM. ``file`` tells files apart.

    Raises LmxdError ``invalid_params`` if it would not start.
    """
    try:
        if launch.mtp and extras.draft is None and (ended := why_not_with(build, model)) is not None:
            raise Impossible(ended)
        parts = added(footprint(model, launch, len(cards), build), model, launch, len(cards), extras, build)
    except Impossible as why:
        raise LmxdError("invalid_params", str(why)) from why
    flash, whole = flash_attention(model, launch, on_gpu=bool(cards)), not parts.left
    fetched = overhead.fetched(model, launch, flash=flash, whole=whole, floats=extras.floats)
    beside = fetched_beside(model, launch, extras, len(cards), flash=flash)
    known = tuple(contexts.context(card, learned) for card in cards)
    devices = tuple(
        replace(place, overhead=context.size + fetched + more + learned.shortfall(card, file))
        for place, context, more, card in zip(parts.devices, known, beside, cards, strict=True)
    )
    host = replace(parts.host, overhead=overhead.HOST + overhead.HOST_PER_TOKEN * model.vocabulary)
    found = replace(parts, devices=devices, host=host)
    uncertain = _error(model, launch, found, flash=flash)
    backends = {card.backend for card in cards}
    foreign = max((overhead.doubt(model, launch, x, flash=flash, whole=whole) for x in backends), default=0)
    return Estimate(
        basis=CLOSED_FORM,
        parts=found,
        error=uncertain + max((x.error for x in known), default=0) + foreign + extras.error,
        uncertain=uncertain,
        contexts=known,
        notes=_notes(model, launch, build, cards, known),
    )


def _error(model: Model, launch: Launch, found: Footprint, *, flash: bool) -> int:
    """Plus or minus, by what the comparison with llama-server showed (docs/accuracy.md)."""
    error = _ERROR + (found.left // 4 if copies_experts(model, launch) else found.left)
    if not found.devices:
        error += found.host.overhead // 2
    if not flash and overhead.attends(model):
        queries = max(model.heads, default=0) * model.key
        error += 8 * launch.tokens * queries
        error += overhead.scores(model, launch) if found.devices else 0
    if found.left and any(model.states) and any(model.caches):  # flash attention may then turn itself off
        error += 2 * overhead.scores(model, launch)
    if len(found.devices) > 1 and any(model.states):  # states are copied for the pipeline too
        error += max(p.compute for p in found.devices)
    if launch.mtp:
        error += 8 * launch.tokens * model.embedding
    on_card = bool(found.devices) and (model.arch in ONLY_IN_RAM or len(found.devices) > 1)
    if model.arch in UNVERIFIED or on_card:
        error += max((p.compute for p in (*found.devices, found.host)), default=0) // 4
    return error


def _notes(
    model: Model, launch: Launch, build: Build, cards: Sequence[Card], known: Sequence[ProcessContext]
) -> tuple[str, ...]:
    notes = []
    if not build.known:
        notes.append(f"this build of llama-server is not known: taken to be like {build.first}")
    if model.arch in UNVERIFIED or (cards and model.arch in ONLY_IN_RAM):
        notes.append(f"the compute buffer of {model.arch} models is uncertain")
    notes += [
        f"the CUDA context of {card.name or 'this card'} is not known ({context.source})"
        for card, context in dict(zip(cards, known, strict=True)).items()
        if context.error == contexts.UNKNOWN_ERROR
    ]
    notes += of_other_backends(cards)
    if launch.context > model.context > 0 and not (launch.unified and launch.slots > 1):  # it has several conversations
        notes.append(f"the model was trained for {model.context} tokens")
    return tuple(notes)


def of_other_backends(cards: Sequence[Card]) -> list[str]:
    """A note for each backend whose kernels are not those that the closed form is about."""
    return [
        f"the buffers are those of CUDA's kernels: what {backend}'s take beside is in the error bar"
        for backend in dict.fromkeys(card.backend for card in cards)
        if backend is not Backend.CUDA
    ]


def inputs(model: Model, launch: Launch) -> dict[str, int | str]:
    """The inputs of the formula, for people who want to check it."""
    found: dict[str, int | str] = {
        "architecture": model.arch,
        "layers": model.layers,
        "embedding": model.embedding,
        "heads": max(model.heads, default=0),
        "kv_heads": max(model.kv_heads, default=0),
        "key_length": model.key,
        "value_length": model.value,
        "vocabulary": model.vocabulary,
        "trained_context": model.context,
        "cells": launch.cells * launch.streams,
        "ubatch": launch.ubatch,
        "cache_type_k": launch.cache_type_k,
        "cache_type_v": launch.cache_type_v,
    }
    if model.window:
        found |= {"window": model.window, "sliding_layers": sum(model.slides)}
    if model.experts_used:
        found |= {"experts_used": model.experts_used, "expert_feed_forward": model.expert_feed_forward}
    if any(model.states):
        found |= {"state_layers": sum(model.states), "state_width": model.state_width}
    return found
