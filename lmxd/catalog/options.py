"""Options: the ways to place a launch on one device, over several, or in part in RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from lmxd.catalog.layout import RAM_ID, Layout
from lmxd.catalog.sizing import Sizing
from lmxd.core.words import DeviceId, Option
from lmxd.devices.measurement import DeviceKind
from lmxd.errors import LmxdError
from lmxd.estimate.fits import first_that_fits
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload, divided

_TRIES: Final = 6
"""The most attempts at a split, each of which needs an estimate. Then it is given up."""
_RUNGS: Final = 4
"""Options on the way from all of a model to the least of it, beside those for the bytes that are free now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Bytes of each device: those that are ``free`` now, and the most that there could ever be (``ceiling``)."""

    free: Mapping[DeviceId, int]
    ceiling: Mapping[DeviceId, int]


NO_ROOM: Final = Room(free={}, ceiling={})


def options(
    sizing: Sizing,
    launch: Launch,
    layout: Layout,
    room: Room = NO_ROOM,
    *,
    split: bool,
    offloads: Sequence[Offload] = (),
    alike: Callable[[DeviceId], object] = lambda gpu: None,
) -> tuple[Option, ...]:
    """All ways to place a launch.

    A model goes to RAM if its ``gpu_layers`` is 0, or if there is no GPU. The RAM of a launch on a GPU is counted if
    RAM is one of the devices, or is in a pool with one. It is split only over GPUs of which ``alike`` says the same.
    ``offloads``: the ways to divide it between a GPU and RAM, the most on the GPU first; none if it must not be.
    """
    gpus = layout.of_kind(DeviceKind.GPU)
    if sizing.shares > 1:
        return tuple(_shares(sizing, launch, gpus, room, layout, alike))
    if not layout.goes_to_gpu(launch):
        return (layout.option({RAM_ID: sizing.charge(launch, ())[1]}),)
    singles = [_option(sizing, launch, (gpu,), layout) for gpu in gpus]
    found = [*singles]
    if split and len(gpus) > 1:
        for kind in dict.fromkeys(map(alike, gpus)):
            found += _splits(sizing, launch, [gpu for gpu in gpus if alike(gpu) == kind], room, singles, layout)
    for gpu in gpus:
        found += _offloaded(sizing, launch, gpu, room, offloads, layout)
    return tuple(found)


def _option(sizing: Sizing, launch: Launch, gpus: tuple[DeviceId, ...], layout: Layout, **how: Any) -> Option:
    on_devices, in_ram = sizing.charge(launch, gpus)
    return layout.option(dict(zip(gpus, on_devices, strict=True)), in_ram, **how)


def _shares(
    sizing: Sizing,
    launch: Launch,
    gpus: Sequence[DeviceId],
    room: Room,
    layout: Layout,
    alike: Callable[[DeviceId], object],
) -> Iterator[Option]:
    """Equal shares on as many GPUs of one kind as it needs: those with the most room now, and if all had ended.

    A MIG slice is used alone. LmxdError if there are not so many.
    """
    kinds = {
        kind: [gpu for gpu in gpus if alike(gpu) == kind and not gpu.startswith("MIG-")] for kind in map(alike, gpus)
    }
    enough = [several for several in kinds.values() if len(several) >= sizing.shares]
    if not enough:
        most = max((len(several) for several in kinds.values()), default=0)
        there = {0: "is none", 1: "is 1 of one kind"}.get(most, f"are {most} of one kind")
        raise LmxdError("invalid_params", f"gpus is {sizing.shares}, but there {there} that it can use", "lower gpus")
    for several in enough:
        chosen = [
            tuple(sorted(several, key=lambda gpu: -have.get(gpu, 0))[: sizing.shares])
            for have in (room.free, room.ceiling)
        ]
        for those in dict.fromkeys(tuple(sorted(those, key=several.index)) for those in chosen):
            yield _option(sizing, launch, those, layout)


def _splits(
    sizing: Sizing,
    launch: Launch,
    gpus: list[DeviceId],
    room: Room,
    singles: list[Option],
    layout: Layout,
) -> Iterator[Option]:
    """Splits over the two, three … devices with the most room: as they are now, and as if all instances had ended.

    There is none where one device has room now. A MIG slice is used alone, for CUDA shows a process only one.
    """
    several = [gpu for gpu in gpus if not gpu.startswith("MIG-")]
    if len(several) < 2:
        return
    if any(all(need <= room.free.get(d, -1) for d, need in option.demand.items()) for option in singles):
        return
    for have in (room.free, room.ceiling):
        order = sorted(several, key=lambda gpu: -have.get(gpu, 0))
        for count in range(2, len(order) + 1):
            if option := _split(sizing, launch, tuple(order[:count]), have, layout):
                yield option
                break  # more devices would only cost more


def _split(
    sizing: Sizing, launch: Launch, gpus: tuple[DeviceId, ...], have: Mapping[DeviceId, int], layout: Layout
) -> Option | None:
    """A split by layers in proportion to the room; then layers move from devices that are too full to others."""
    layers = sizing.layers()
    total = sum(max(0, have.get(gpu, 0)) for gpu in gpus)
    if layers is None or not total or len(gpus) > layers:
        return None
    counts = [max(1, round(layers * max(0, have.get(gpu, 0)) / total)) for gpu in gpus]
    counts[counts.index(max(counts))] += layers - sum(counts)
    tried: set[tuple[int, ...]] = set()
    while tuple(counts) not in tried and len(tried) < _TRIES:
        tried.add(tuple(counts))
        option = _option(sizing, replace(launch, split=tuple(counts)), gpus, layout, split=tuple(counts))
        over = {gpu: option.demand[gpu] - have.get(gpu, 0) for gpu in gpus}
        fullest, emptiest = max(over, key=lambda g: over[g]), min(over, key=lambda g: over[g])
        if over[fullest] <= 0:
            return option
        giver, taker = gpus.index(fullest), gpus.index(emptiest)
        if over[emptiest] >= 0 or counts[giver] < 2:
            return None
        per_layer = max(1, option.demand[fullest] // counts[giver])
        moved = min(counts[giver] - 1, -(-over[fullest] // per_layer), max(1, -over[emptiest] // per_layer))
        counts[giver] -= moved
        counts[taker] += moved
    return None


def _offloaded(
    sizing: Sizing, launch: Launch, gpu: DeviceId, room: Room, offloads: Sequence[Offload], layout: Layout
) -> Iterator[Option]:
    """The most of it that goes on a GPU as it is now, and as if all instances had ended; and some ways between."""
    least = len(offloads) - 1

    def at(n: int) -> Option:
        how = offloads[n]
        partly = divided(launch, how.layers, how.in_ram)
        return _option(sizing, partly, (gpu,), layout, gpu_layers=how.layers, in_ram=how.in_ram, spills=n)

    chosen = {least * rung // _RUNGS for rung in range(1, _RUNGS + 1)} if least > 0 else set()
    for most in (room.free.get(gpu), room.ceiling.get(gpu)):
        if chosen and most is not None:
            chosen.add(first_that_fits(least, partial(_fits, at, gpu, most)) or 0)
    for n in sorted(chosen - {0}):
        yield at(n)


def _fits(at: Callable[[int], Option], gpu: DeviceId, most: int, n: int) -> bool:
    return at(n).demand[gpu] <= most
