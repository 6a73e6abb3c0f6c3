"""The GPUs that somebody asks about: by their names, or those of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import DeviceKind
from lmxd.devices.probes import measure_now
from lmxd.estimate.backends import Backend
from lmxd.estimate.cards import card_of, memory_of
from lmxd.estimate.learned import Card


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A GPU with its memory in bytes, 0 if unknown."""

    card: Card
    capacity: int


def places_of(names: Sequence[str], backends: Callable[[], frozenset[Backend] | None]) -> list[Place]:
    """The GPUs of these names, else those of this machine. ``backends``: of the engine, asked if there are any."""
    if names:
        known = backends()
        return [Place(card=card_of(x, backends=known), capacity=memory_of(x) or 0) for x in names]
    import pynvml

    found = [x for x in measure_now(None, pynvml) if x.kind is DeviceKind.GPU and x.unavailable is None]
    known = backends() if found else None
    return [
        Place(
            card=card_of(x.name, driver=x.driver, vendor=x.vendor, cores=x.cores, compute=x.compute, backends=known),
            capacity=x.capacity,
        )
        for x in found
    ]


def capacity_of_ram() -> int:
    """Bytes of RAM."""
    (ram,) = HostProbe().measure(set())
    return ram.capacity
