"""The configured GPUs, divided by who measures them. A number means the same card whoever made it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from lmxd.devices import pci
from lmxd.devices.driver_calls import CallRound, DriverCalls
from lmxd.devices.drm.ioctls import Ioctl, kernel_ioctl
from lmxd.devices.drm.reader import CardReader
from lmxd.devices.measurement import Measurement, Probe
from lmxd.devices.roots import Roots
from lmxd.vendor import Vendor

_SERIAL: Final = re.compile(r"GPU-[0-9a-f]{16}", re.IGNORECASE)
"""ROCm's name of a card; NVIDIA's has dashes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuChoice:
    """The GPUs for NVML and those for the kernel's files: the name that each was configured by -> what it means."""

    nvidia: Mapping[str, int | str]
    drm: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NumberedGpu:
    """One GPU among those that a configuration may number. ``address``: on the PCI bus; ``id``: the name that lasts."""

    address: str
    id: str
    vendor: Vendor
    integrated: bool


def choose(
    refs: Iterable[int | str], roots: Roots, ioctl: Ioctl = kernel_ioctl, calls: DriverCalls | None = None
) -> GpuChoice:
    """Find out whose the named GPUs are. Without a card of AMD or Intel, all are for NVML to find."""
    gpus = numbered_gpus(roots, ioctl, calls)
    nvidia: dict[str, int | str] = {}
    drm: dict[str, str] = {}
    of_nvidia = [gpu for gpu in gpus if gpu.vendor is Vendor.NVIDIA]
    others = {name: gpu.id for gpu in gpus if gpu.vendor is not Vendor.NVIDIA for name in (gpu.address, gpu.id)}
    for ref in refs:
        if isinstance(ref, str):
            name = pci.address(ref) or ref
            if name in others or _SERIAL.fullmatch(ref):
                drm[ref] = others.get(name, ref)
            else:
                nvidia[ref] = ref
        elif ref < len(gpus) and gpus[ref].vendor is not Vendor.NVIDIA:
            drm[str(ref)] = gpus[ref].id
        elif ref < len(gpus) and of_nvidia.index(gpus[ref]) != ref:
            nvidia[str(ref)] = gpus[ref].address  # NVML counts its own alone
        elif others and not of_nvidia:
            drm[str(ref)] = str(ref)
        else:
            nvidia[str(ref)] = ref
    return GpuChoice(nvidia=nvidia, drm=drm)


def numbered_gpus(roots: Roots, ioctl: Ioctl = kernel_ioctl, calls: DriverCalls | None = None) -> list[NumberedGpu]:
    """The GPUs in the order in which they are numbered: by PCI address, those of processors last."""
    reader = CardReader(roots, ioctl, calls=calls)
    driver = CallRound(reader.calls)
    found = [NumberedGpu(gpu.address, gpu.address, Vendor.NVIDIA, False) for gpu in pci.gpus(roots.sys, Vendor.NVIDIA)]
    others = (
        NumberedGpu(reading.card.address, reading.id, reading.card.vendor, reading.integrated)
        for reading in reader.read(reader.find(driver), driver)
        if reading.card.driver or not reading.integrated
    )
    return sorted([*found, *others], key=lambda gpu: (gpu.integrated, pci.order(gpu.address)))


def numbered(gpus: Sequence[Measurement]) -> list[Measurement]:
    """All GPUs by the numbers that they have in a configuration; where all are NVIDIA's, NVML's numbers are those.

    A MIG slice has none, and neither has a GPU whose address is not known.
    """
    if all(gpu.vendor is Vendor.NVIDIA for gpu in gpus):
        return list(gpus)
    in_order = sorted(gpus, key=_order)
    seats = dict.fromkeys(_seat(gpu) for gpu in in_order if gpu.pci)
    numbers = {seat: str(number) for number, seat in enumerate(seats)}
    return [gpu if _is_slice(gpu) else replace(gpu, ref=numbers.get(_seat(gpu), gpu.ref)) for gpu in in_order]


def _order(gpu: Measurement) -> tuple[bool, tuple[int, ...]]:
    return gpu.pool is not None and gpu.vendor is not Vendor.NVIDIA, pci.order(gpu.pci) if gpu.pci else ()


def _seat(gpu: Measurement) -> tuple[str, str]:
    """The address of a GPU, and its id where it is whole: slices of one share its number."""
    return gpu.pci, "" if _is_slice(gpu) else gpu.id


def _is_slice(gpu: Measurement) -> bool:
    return gpu.vendor is Vendor.NVIDIA and not gpu.ref.isdecimal()


class AliasProbe:
    """A probe whose devices go by the names that they were configured by. ``names``: by the probe's own."""

    def __init__(self, probe: Probe, names: Mapping[str, str]) -> None:
        self._probe = probe
        self._names = names

    def measure(self, pids: Set[int]) -> list[Measurement]:
        return [replace(m, ref=self._names.get(m.ref, m.ref)) for m in self._probe.measure(pids)]

    def close(self) -> None:
        self._probe.close()
