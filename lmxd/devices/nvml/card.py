"""One GPU, or one MIG slice of one: its handle while NVML gives one, and its fault while there is one."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmxd.devices.backoff import Backoff
from lmxd.devices.host import memory_total
from lmxd.devices.measurement import MEMORY, DeviceKind, Measurement, Vendor
from lmxd.devices.namespace import Namespace
from lmxd.devices.nvml.faults import NOT_FOUND, Fault, NvmlFault
from lmxd.devices.nvml.figures import Figures, figures
from lmxd.devices.nvml.library import Library


@dataclass(slots=True)
class NvmlCard:
    """A card by its UUID, which is looked for again after a fault: by itself, with pauses that grow.

    ``known`` is what it said of itself when it first answered. ``parent``: the UUID of the GPU that it is a slice of.
    ``unknown``: there is only a name in the configuration, or an index that does not answer. ``moved``: a hint that its
    configured index means another card by now.
    """

    id: str
    ref: str
    pci: str = ""
    parent: str = ""
    unknown: bool = False
    handle: Any = None
    fault: Fault | None = None
    moved: str = ""
    backoff: Backoff = field(default_factory=Backoff)
    known: Measurement | None = None

    def attach(self, handle: Any) -> None:
        """NVML has given a handle."""
        self.handle, self.fault = handle, None

    def due(self, now: float) -> bool:
        """Whether it is to be looked for again."""
        return self.handle is None and now >= self.backoff.at

    def measure(self, library: Library, namespace: Namespace, pids: Set[int], proc: Path) -> Measurement:
        """Its figures. Raises NvmlFault if it has none, or if its handle has become another card's."""
        if library.identity(self.handle, self.id) != self.id:
            raise NvmlFault(NOT_FOUND, "the card is at another index")
        found = figures(library, self.handle, namespace, pids)
        if self.known is None:
            self.known = self._facts(library)
        self.backoff.reset()
        hints = tuple(hint for hint in (self.moved, found.hint) if hint)
        known = replace(self.known, processes=found.processes, partial=found.partial, hints=hints)
        return _with_memory(known, found, proc)

    def _facts(self, library: Library) -> Measurement:
        compute = library.ask("nvmlDeviceGetCudaComputeCapability", self.handle)
        cores = library.ask("nvmlDeviceGetNumGpuCores", self.handle)
        return Measurement(
            id=self.id,
            ref=self.ref,
            kind=DeviceKind.GPU,
            name=library.text("nvmlDeviceGetName", self.handle) or "NVIDIA GPU",
            driver=library.text("nvmlSystemGetDriverVersion"),
            vendor=Vendor.NVIDIA,
            pci=self.pci,
            cores=cores if isinstance(cores, int) else 0,
            compute=(int(compute[0]), int(compute[1])) if compute else None,
        )

    def unavailable(self, fault: Fault) -> Measurement:
        """Its measurement meanwhile: what it said of itself, and the fault."""
        known = self.known or Measurement(
            id=self.id, ref=self.ref, kind=DeviceKind.GPU, name="NVIDIA GPU", vendor=Vendor.NVIDIA, pci=self.pci
        )
        hints = (self.moved,) if self.moved else ()
        return replace(known, unavailable=fault.why, remedy=fault.remedy, hints=hints)


def _with_memory(known: Measurement, found: Figures, proc: Path) -> Measurement:
    """Its bytes; those of the machine where it has no memory of its own, as on GB10 and Jetson."""
    if found.memory is not None:
        total, used, reserved = found.memory
        return replace(known, capacity=total - reserved, reserved=reserved, used=used)
    uses = (found.processes or {}).values()
    return replace(
        known,
        capacity=memory_total(proc),
        used=sum(use.visible for use in uses),
        lower_bound=found.processes is None or found.partial,
        pool=MEMORY,
    )
