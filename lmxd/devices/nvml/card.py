"""One GPU, or one MIG slice of one: its handle while NVML gives one, and its fault while there is one."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from lmxd.devices.backoff import Backoff
from lmxd.devices.host import memory_total
from lmxd.devices.measurement import MEMORY, DeviceKind, Measurement
from lmxd.devices.namespace import Namespace
from lmxd.devices.nvml.faults import NOT_FOUND, Fault, NvmlFault
from lmxd.devices.nvml.figures import Figures, figures
from lmxd.devices.nvml.library import Library
from lmxd.vendor import Vendor

_NAMELESS: Final = "NVIDIA GPU"
_QUESTIONS: Final = 5


@dataclass(slots=True)
class NvmlCard:
    """A card by its UUID, which is looked for again after a fault: by itself, with pauses that grow.

    ``known`` is what it said of itself. It is asked again ``questions`` times at most until it has said all: a call may
    fail just then, and after a fault there may be another driver. ``place``: as in ``Listed``. ``parent``: the UUID of
    the GPU that it is a part of.
    ``unknown``: there is only a name in the configuration, or an index that does not answer, or it cannot be used.
    ``moved``: a hint that its configured index means another card by now. ``cuda``: as in ``Measurement``.
    """

    id: str
    ref: str
    pci: str = ""
    place: str = ""
    parent: str = ""
    unknown: bool = False
    handle: Any = None
    fault: Fault | None = None
    moved: str = ""
    cuda: int | None = None
    backoff: Backoff = field(default_factory=Backoff)
    questions: int = _QUESTIONS
    known: Measurement = field(init=False)

    def __post_init__(self) -> None:
        self.known = Measurement(
            id=self.id, ref=self.ref, kind=DeviceKind.GPU, name=_NAMELESS, vendor=Vendor.NVIDIA, pci=self.pci
        )

    def attach(self, handle: Any) -> None:
        """NVML has given a handle."""
        self.handle, self.fault, self.questions = handle, None, _QUESTIONS

    def due(self, now: float) -> bool:
        """Whether it is to be looked for again."""
        return self.handle is None and now >= self.backoff.at

    def measure(self, library: Library, namespace: Namespace, pids: Set[int], proc: Path) -> Measurement:
        """Its figures. Raises NvmlFault if it has none, or if its handle has become another card's."""
        if library.identity(self.handle, self.id) != self.id:
            raise NvmlFault(NOT_FOUND, "the card is at another index")
        found = figures(library, self.handle, namespace, pids)
        if self.questions:
            self._learn(library)
        self.backoff.reset()
        hints = tuple(hint for hint in (self.moved, found.hint) if hint)
        known = replace(self.known, processes=found.processes, partial=found.partial, hints=hints, cuda=self.cuda)
        return _with_memory(known, found, proc)

    def _learn(self, library: Library) -> None:
        """Take down what it says of itself; what it does not say now stays as it was."""
        name, driver = library.text("nvmlDeviceGetName", self.handle), library.text("nvmlSystemGetDriverVersion")
        cores = library.ask("nvmlDeviceGetNumGpuCores", self.handle)
        compute = library.ask("nvmlDeviceGetCudaComputeCapability", self.handle)
        self.questions = 0 if name and driver and cores and compute else self.questions - 1
        self.known = replace(
            self.known,
            name=name or self.known.name,
            driver=driver or self.known.driver,
            cores=cores if isinstance(cores, int) else self.known.cores,
            compute=(int(compute[0]), int(compute[1])) if compute else self.known.compute,
        )

    def unavailable(self, fault: Fault) -> Measurement:
        """Its measurement meanwhile: what it said of itself, and the fault."""
        hints = (self.moved,) if self.moved else ()
        return replace(self.known, unavailable=fault.why, remedy=fault.remedy, hints=hints)


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
