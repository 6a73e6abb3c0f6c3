"""Companions of a model: a projector for images or sound, adapters, a draft model, its own layers for drafting.

Sources, llama.cpp build 11434: tools/mtmd (the projector is one device's), src/llama-adapter.cpp (each adapter
tensor goes where its base is), common/speculative.cpp (a draft has the target's context and slots).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from lmxd.estimate import overhead
from lmxd.estimate.overhead import is_float_matrix
from lmxd.gguf.builds import Build
from lmxd.gguf.compute import flash_attention
from lmxd.gguf.drafting import drafting_buffer, drafting_cache, why_not
from lmxd.gguf.footprint import Footprint, Impossible, Parts, footprint
from lmxd.gguf.header import Header, Tensor
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model, layer_of
from lmxd.gguf.placement import HOST, placed
from lmxd.gguf.weights import cuda_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Extras:
    """The bytes of ``projector``, adapters' tensors, and a draft with its launch.

    ``image``: bytes of the widest activations of the projector's largest image, as cuBLAS takes and gives them.
    """

    projector: int = 0
    image: int = 0
    projector_on_device: bool = True
    adapters: tuple[Tensor, ...] = ()
    draft: Model | None = None
    draft_launch: Launch | None = None

    @property
    def error(self) -> int:
        return self.projector // 8

    @property
    def floats(self) -> bool:
        """Whether adapters are multiplied by cuBLAS."""
        return any(map(is_float_matrix, self.adapters))


NO_EXTRAS: Final = Extras()


def projector_bytes(header: Header) -> int:
    """A projector's weights, and its compute buffer for the largest image (f32; one layer at a time)."""
    weights = sum(cuda_bytes(tensor) for tensor in header.tensors)
    if (seen := _vision(header)) is None:
        return weights + weights // 3  # sound, or of a kind of its own: +31 % was reported
    patches, width, inner = seen
    return weights + 4 * patches * (5 * width + inner)


def image_bytes(header: Header) -> int:
    """The widest activations of the largest image in f16, in and out; 0 if its size is not said."""
    patches, _, inner = _vision(header) or (0, 0, 0)
    return 4 * patches * inner


def _vision(header: Header) -> tuple[int, int, int] | None:
    """(patches of the largest image, width, inner width) of an image encoder; None if it does not say them."""
    figures = [
        value if isinstance(value := header.metadata.get(f"clip.vision.{key}"), int) else 0
        for key in ("image_size", "patch_size", "embedding_length", "feed_forward_length")
    ]
    if not all(0 < figure < 2**24 for figure in figures):
        return None
    image, patch, width, inner = figures
    return (image // patch) ** 2, width, inner


def beside(parts: Footprint, extras: Extras, build: Build) -> Footprint:
    """A footprint with a projector and a draft model, which are the same beside any model."""
    devices, places = len(parts.devices), [*parts.devices, parts.host]
    first = 0 if devices and extras.projector_on_device else len(places) - 1
    places[first] = replace(places[first], projector=extras.projector)
    if extras.draft is not None and extras.draft_launch is not None:
        draft = footprint(extras.draft, extras.draft_launch, devices, build)
        places = [a + b for a, b in zip(places, (*draft.devices, draft.host), strict=True)]
    return replace(parts, devices=tuple(places[:-1]), host=places[-1])


def beside_unknown(parts: Footprint, extras: Extras, build: Build) -> Footprint:
    """A footprint with what goes with a model of which the layers are not known: each place may get all adapters."""
    size = sum(cuda_bytes(tensor) for tensor in extras.adapters)
    found = beside(parts, extras, build)
    places = [replace(place, adapter=size) for place in (found.devices or (found.host,))]
    return replace(found, devices=tuple(places)) if found.devices else replace(found, host=places[0])


def fetched_beside(model: Model, launch: Launch, extras: Extras, devices: int, *, flash: bool) -> list[int]:
    """Bytes that the first prompts and the first image fetch on each device for what goes with a model.

    A projector is on the first, a draft on each, the model's own drafting where its output is. Each has a context of
    its own for cuBLAS, or for the pool of activations. Measured on an H100, build 11434.
    """
    found, draft, drafted = [0] * devices, extras.draft, extras.draft_launch
    if draft is not None and drafted is not None:
        attends = flash_attention(draft, drafted, on_gpu=True)
        each = overhead.fetched(draft, drafted, flash=attends, whole=drafted.gpu_layers is None)
        found = [each] * devices
    if devices and extras.projector and extras.projector_on_device:
        found[0] += extras.image + overhead.CUBLAS
    if devices and launch.mtp:
        found[-1] += overhead.fetched_by_drafting(model, launch, flash=flash)
    return found


def added(parts: Footprint, model: Model, launch: Launch, devices: int, extras: Extras, build: Build) -> Footprint:
    """A model's footprint with what goes with it."""
    parts = beside(parts, extras, build)
    places = [*parts.devices, parts.host]
    placement = placed(model, launch, devices)
    for tensor in extras.adapters:
        place = placement.of(_layer_of_base(tensor, model))
        at = len(places) - 1 if place == HOST else place
        size = cuda_bytes(tensor) if devices else tensor.nbytes
        places[at] = replace(places[at], adapter=places[at].adapter + size)
    if launch.mtp and extras.draft is None:
        at = len(places) - 1 if placement.output == HOST else placement.output
        places[at] = places[at] + _drafting(model, launch, devices, build)
        places[-1] = places[-1] + Parts(compute=4 * launch.slots * model.vocabulary)
    return replace(parts, devices=tuple(places[:-1]), host=places[-1])


def _drafting(model: Model, launch: Launch, devices: int, build: Build) -> Parts:
    """The context of the model's own drafting layers. Impossible if it has none."""
    if (why := why_not(model)) is not None:
        raise Impossible(why)
    flash = flash_attention(model, launch, on_gpu=devices > 0)
    return Parts(
        kv=drafting_cache(model, launch, build, flash=flash, on_gpu=devices > 0),
        compute=drafting_buffer(model, launch, flash=flash),
    )


def _layer_of_base(tensor: Tensor, model: Model) -> int | None:
    layer = layer_of(tensor)
    return layer if layer is not None and layer < model.layers else None
