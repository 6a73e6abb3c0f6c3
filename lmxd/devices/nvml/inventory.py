"""The cards that NVML lists at one moment, with their UUIDs asked anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lmxd.devices.nvml.faults import (
    ARGUMENT_VERSION,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_SUPPORTED,
    Fault,
    NvmlFault,
)
from lmxd.devices.nvml.library import Library
from lmxd.devices.pci import PciGpu, address

_WHOLE: Final = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NO_PERMISSION, ARGUMENT_VERSION})
"""Codes of a GPU or a driver that knows nothing of slices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One index of NVML: the card there, or the fault that keeps it from being known.

    ``slices``: the handles of the MIG slices of a GPU that is divided, by UUID: they are devices, and the GPU is none.
    """

    index: int
    uuid: str = ""
    pci: str = ""
    handle: Any = None
    fault: Fault | None = None
    slices: dict[str, Any] = field(default_factory=dict)

    def goes_by(self, ref: int | str) -> bool:
        """Whether a name of the configuration means it."""
        return ref in (self.uuid, self.index) or (isinstance(ref, str) and bool(self.pci) and address(ref) == self.pci)


def inventory(library: Library, bus: Sequence[PciGpu]) -> list[Listed]:
    """All that NVML counts, in its order, which is that of PCI addresses. Raises NvmlFault if it does not count.

    ``bus``: the cards on the PCI bus, of which those that do not answer may be one.
    """
    seen = [_seen(library, index) for index in range(library.require("nvmlDeviceGetCount"))]
    answered = {s.pci for s in seen}
    silent = [card.address for card in bus if card.address not in answered]
    failing = [s.index for s in seen if s.fault is not None and not s.pci]
    places = dict(zip(failing, silent, strict=True)) if len(failing) == len(silent) else {}
    return [replace(s, pci=places.get(s.index, s.pci)) for s in seen]


def _seen(library: Library, index: int) -> Listed:
    pci = ""
    try:
        handle = library.require("nvmlDeviceGetHandleByIndex", index)
        pci = address(getattr(library.ask("nvmlDeviceGetPciInfo", handle), "busId", ""))
        uuid = library.identity(handle, index)
        return Listed(index=index, uuid=uuid, pci=pci, handle=handle, slices=_slices(library, handle))
    except NvmlFault as fault:
        return Listed(index=index, pci=pci, fault=fault.fault())


def _slices(library: Library, handle: Any) -> dict[str, Any]:
    """There are fewer than there could be, and none of a GPU that cannot be divided. Raises NvmlFault."""
    try:
        if not library.require("nvmlDeviceGetMigMode", handle)[0]:
            return {}
    except NvmlFault as fault:
        if fault.code not in _WHOLE:
            raise
        return {}
    found = {}
    for number in range(library.require("nvmlDeviceGetMaxMigDeviceCount", handle)):
        slice = library.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        if slice is not None and (uuid := library.text("nvmlDeviceGetUUID", slice)):
            found[uuid] = slice
    return found
