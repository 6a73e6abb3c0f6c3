"""The closed form: bytes that a llama-server takes for a model, by part and place.

The process's own overhead is not in here: it belongs to the machine (lmxd/estimate).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final
from weakref import WeakKeyDictionary

from lmxd.gguf.architectures import ENCODING
from lmxd.gguf.builds import LATEST, Build
from lmxd.gguf.cache import kv_bytes, state_bytes
from lmxd.gguf.compute import compute, flash_attention
from lmxd.gguf.drafting import own_cache
from lmxd.gguf.launch import Launch
from lmxd.gguf.model import Model
from lmxd.gguf.placement import HOST, PlaceNumber, placed
from lmxd.gguf.weights import weights

PARTS: Final = ("weights", "kv", "state", "compute", "projector", "adapter", "overhead")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The bytes in one place, by part."""

    weights: int = 0
    kv: int = 0
    state: int = 0
    compute: int = 0
    projector: int = 0
    adapter: int = 0
    overhead: int = 0

    def __post_init__(self) -> None:
        assert min(self.weights, self.kv, self.state, self.compute, self.projector, self.adapter, self.overhead) >= 0, (
            "bytes that are negative"
        )

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))

    def as_dict(self) -> dict[str, int]:
        """Part -> bytes, and their ``total``."""
        return {part: getattr(self, part) for part in PARTS} | {"total": self.total}

    def __add__(self, other: Parts) -> Parts:
        return Parts(**{part: getattr(self, part) + getattr(other, part) for part in PARTS})


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """The bytes that a llama-server takes, by place and part.

    ``devices`` is empty when everything runs on the host. ``left``: bytes of the largest matrix that stays on the host
    beside devices; the compute figures are least sure of it.
    """

    devices: tuple[Parts, ...]
    host: Parts
    left: int = 0

    @property
    def device(self) -> Parts:
        """The parts of the one device there is; nothing without."""
        return self.devices[0] if self.devices else Parts()

    @property
    def device_or_host(self) -> Parts:
        """The parts of the first device; without any, those on the host."""
        return self.devices[0] if self.devices else self.host


class Impossible(ValueError):
    """The error for a launch that llama-server would refuse."""


_MOST: Final = 2048
"""Footprints of a model that are remembered."""
_remembered: WeakKeyDictionary[Model, dict[tuple[Launch, int, Build], Footprint]] = WeakKeyDictionary()


def footprint(model: Model, launch: Launch, devices: int, build: Build = LATEST) -> Footprint:
    """Bytes by place and part for so many devices; 0: in RAM. Weights, cache and state are exact.

    It is computed once: who divides a model between a GPU and RAM asks for many. Raises Impossible for cache types
    that the model cannot have.
    """
    known, key = _remembered.setdefault(model, {}), (launch, devices, build)
    if (found := known.get(key)) is None:
        found = _computed(model, launch, devices, build)
        if len(known) >= _MOST:
            known.clear()  # while another thread may look
        known[key] = found
    return found


def _computed(model: Model, launch: Launch, devices: int, build: Build) -> Footprint:
    flash = flash_attention(model, launch, on_gpu=devices > 0)
    if not flash and launch.quantized_v and any(model.caches):
        raise Impossible(f"a {launch.cache_type_v} V cache needs flash attention, which is off for this model")
    if model.mla and launch.cache_type_k != launch.cache_type_v:
        types = f"a {launch.cache_type_k} K cache and a {launch.cache_type_v} V cache"
        raise Impossible(f"{types} are not possible: this model keeps both in one, so give them one type")
    if model.arch in ENCODING and launch.streams > 1:
        raise Impossible(f"llama-server ends itself with a {model.arch} model in several slots: give it one slot")
    placement = placed(model, launch, devices)
    on_devices, on_host = weights(model, launch, placement)
    kv, state = _memory(model, launch, build, placement.layers, flash)
    left = on_host.largest if devices else 0
    buffers = compute(model, launch, build, flash=flash, devices=devices, whole=placement.whole, left=left)
    output = 4 * launch.slots * (1 + launch.drafted) * model.vocabulary
    return Footprint(
        devices=tuple(
            Parts(weights=on_devices[n].device, kv=kv.get(n, 0), state=state.get(n, 0), compute=buffers.devices[n])
            for n in range(devices)
        ),
        host=Parts(
            weights=on_host.host(mmap=launch.mmap),
            kv=kv.get(HOST, 0),
            state=state.get(HOST, 0),
            compute=buffers.host + output + launch.lookup,
        ),
        left=left,
    )


def _memory(
    model: Model, launch: Launch, build: Build, layers: tuple[PlaceNumber, ...], flash: bool
) -> tuple[dict[PlaceNumber, int], dict[PlaceNumber, int]]:
    """(cache, state) by place; both go with their layer, unless they are kept on the host."""
    kv: dict[PlaceNumber, int] = {}
    state: dict[PlaceNumber, int] = {}
    for layer in range(model.layers):
        place = layers[layer] if launch.cache_on_device else HOST
        kv[place] = kv.get(place, 0) + kv_bytes(model, launch, layer, flash=flash, on_gpu=place != HOST)
        if layer == model.layers - 1:
            kv[place] += own_cache(model, launch, build, on_gpu=place != HOST)
        state[place] = state.get(place, 0) + state_bytes(model, launch, layer)
    return kv, state
