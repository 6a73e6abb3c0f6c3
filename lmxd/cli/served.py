"""Model directories estimated right here: what vLLM takes for one, and how many tokens fit on each device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmxd.cli.places import Place, capacity_of_ram, places_of
from lmxd.engines.vllm.launch import batched, served_launch
from lmxd.errors import LmxdError
from lmxd.estimate.directories import read_directory
from lmxd.estimate.fits import fewest_cards, largest
from lmxd.estimate.footprints import DEFAULT_CONTEXT, Estimate
from lmxd.estimate.learned import RAM
from lmxd.estimate.served import estimate_served, inputs_of
from lmxd.rpc.estimates import Estimated
from lmxd.safetensors.model import HfModel
from lmxd.safetensors.serving import ServedLaunch, tokens_in

_STEP = 16
"""Tokens in whose steps a largest context is looked for: vLLM's own block on a GPU."""
_MOST_SEQUENCES = 256
"""The most slots of a profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedServed:
    """The question about a model directory. ``cards`` are names of GPUs; ``gpus``: how many it is divided over.

    ``ctx``: 0 for as many as the model was trained for.
    """

    ctx: int | None = None
    slots: int | None = None
    gpus: int = 1
    kv_tokens: int | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    cards: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def of_directory(path: Path, wanted: WantedServed) -> Estimated:
    """The estimate of one directory, with what would fit.

    LmxdError: ``model_file_missing``, ``bad_model_file``, ``invalid_params``.
    """
    model, found = read_directory(path), places_of(wanted.cards, lambda: None)
    if not found and wanted.gpus > 1:
        raise LmxdError("invalid_params", f"--gpus is {wanted.gpus}, but there are none", "name one with --as-gpu")
    if found and wanted.gpus > len(found):
        if len(found) > 1 or not wanted.cards:
            raise LmxdError("invalid_params", f"--gpus is {wanted.gpus}, but there are {len(found)}", "ask for fewer")
        found *= wanted.gpus
    launch = _launch(wanted, model, on_gpu=bool(found))
    places = found[: launch.ranks]
    cards = tuple(place.card for place in places)
    estimate = estimate_served(path, launch, cards)
    return Estimated(
        model=str(path),
        ctx=launch.context,
        slots=launch.sequences,
        basis=estimate.basis,
        error=estimate.error,
        devices=[{"device": c.name, **p.as_dict()} for c, p in zip(cards, estimate.parts.devices, strict=True)],
        contexts=[{"device": c.name, **x.as_dict()} for c, x in zip(cards, estimate.contexts, strict=False)],
        host=estimate.parts.host.as_dict(),
        inputs=inputs_of(model, launch),
        notes=list(estimate.notes),
        fits=_fits(path, launch, found, model.context),
    )


def _launch(wanted: WantedServed, model: HfModel, *, on_gpu: bool) -> ServedLaunch:
    flags = (*wanted.flags, *(("--dtype", wanted.dtype) if wanted.dtype else ()))
    flags += ("--kv-cache-dtype", wanted.kv_cache_dtype) if wanted.kv_cache_dtype else ()
    trained = model.context or DEFAULT_CONTEXT
    context = min(DEFAULT_CONTEXT, trained) if wanted.ctx is None else wanted.ctx or trained
    slots, latent = wanted.slots or 1, any(layer.latent for layer in model.kept)
    flags += batched(flags, slots, model, context)
    return served_launch(
        context, slots, wanted.kv_tokens or 0, flags, ranks=wanted.gpus if on_gpu else 0, latent=latent
    )


def _fits(path: Path, launch: ServedLaunch, places: Sequence[Place], longest: int) -> dict[str, Any]:
    """The tokens that fit on each device, the largest context, the most requests and the fewest cards, when empty."""
    here = [(place.card.name, place.capacity) for place in places] or [(RAM, capacity_of_ram())]
    sizes = dict(here)
    if not all(sizes.values()):
        return {}
    model = read_directory(path)

    def on(count: int) -> Callable[[ServedLaunch], Estimate]:
        enough = [*places, *list(places[:1]) * count]
        cards = tuple(place.card for place in enough[:count])
        return lambda asked: estimate_served(path, replace(asked, ranks=max(1, count)), cards)

    def fits(asked: ServedLaunch, count: int = launch.ranks if places else 0) -> bool:
        room = min(sizes.values()) if count > 1 else here[0][1]
        try:
            return on(count)(asked).parts.device_or_host.total <= room
        except LmxdError:
            return False

    part = on(launch.ranks if places else 0)(launch).parts.device_or_host
    tokens = {name: tokens_in(model, launch, size - (part.total - part.kv)) for name, size in sizes.items()}
    alone = replace(launch, kv_tokens=0)
    found: dict[str, Any] = {
        "tokens": tokens,
        "largest_context": largest(longest or launch.context, lambda n: fits(replace(alone, context=n)), _STEP),
        "most_slots": largest(_MOST_SEQUENCES, lambda n: fits(replace(alone, sequences=n)), 1),
    }
    return found | ({"fewest_gpus": fewest_cards(lambda n: fits(launch, n))} if places else {})
