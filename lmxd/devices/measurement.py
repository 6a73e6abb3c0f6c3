"""The figures that a probe reads of one device at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lmxd.vendor import Vendor

HOST = "host"
MEMORY = "memory"
"""The id of the pool that is the machine's memory."""


class DeviceKind(StrEnum):
    """A kind of device: a GPU, the host's RAM, or a pool: one memory that several devices are views of."""

    GPU = "gpu"
    HOST = "host"
    POOL = "pool"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessUse:
    """The bytes of one process on a device. ``visible`` is the part that the device's ``used`` contains."""

    total: int
    visible: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One reading of one device.

    ``capacity`` is what processes can have: ``reserved`` (the driver's own) is not in it, nor in ``used``.
    ``processes`` is by pid, None where the device cannot tell them apart. ``partial``: a process that is not among them
    may have bytes all the same, as in a container, where a driver may name the pids of the host. With ``unavailable``
    set (why), the figures mean nothing, and ``remedy`` says what to do. ``hints``: things to know of a device that
    works. ``ref`` is the name it was configured by, ``id`` the one that lasts: a UUID, a PCI address where there is
    none, or "host". ``lower_bound``: at least so much is ``used``, for not all of it can be seen. ``pool``: the id of
    the memory that it shares with other devices; ``own`` bytes of its capacity are no part of that, of which
    ``own_used`` are in use. ``pci``: the address, as 0000:03:00.0. ``cores`` and ``compute``: the CUDA cores and the
    compute capability of a GPU that has them. ``rocm``: the number by which ROCm's runtime knows a GPU of AMD's.
    ``cuda``: the number by which CUDA knows one in the order of PCI addresses, among those that this process sees.
    """

    id: str
    ref: str
    kind: DeviceKind
    name: str
    driver: str = ""
    capacity: int = 0
    reserved: int = 0
    used: int = 0
    processes: Mapping[int, ProcessUse] | None = None
    partial: bool = False
    lower_bound: bool = False
    unavailable: str | None = None
    remedy: str = ""
    hints: tuple[str, ...] = ()
    vendor: Vendor | None = None
    pci: str = ""
    pool: str | None = None
    own: int = 0
    own_used: int = 0
    cores: int = 0
    compute: tuple[int, int] | None = None
    rocm: int | None = None
    cuda: int | None = None


def agreed(before: Mapping[int, ProcessUse], after: Mapping[int, ProcessUse]) -> dict[int, ProcessUse]:
    """Processes as they were seen before and after the device as a whole.

    Bytes that came or went in between may not be in the device's figure. They are not ``visible``, so that the growth
    of an instance that loads never hides foreign bytes.
    """
    return {
        pid: ProcessUse(total=use.total, visible=min(use.visible, before[pid].visible) if pid in before else 0)
        for pid, use in after.items()
    }


class Probe(Protocol):
    """Looks at some devices. Blocks for seconds at most; is called from one thread only; never raises for a device's
    faults, nor for a driver that hangs.
    """

    def measure(self, pids: Set[int]) -> list[Measurement]:
        """One look. ``pids`` are the processes whose use is of interest."""
        ...

    def close(self) -> None:
        """Let go of what it keeps open. It is not asked again."""
        ...
