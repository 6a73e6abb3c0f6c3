"""The cards that NVML lists at one moment, with their UUIDs asked anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from lmxd.devices.driver_calls import CallRound
from lmxd.devices.nvml.faults import (
    ARGUMENT_VERSION,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NO_SLICES,
    NO_UUID,
    NOT_FOUND,
    NOT_SUPPORTED,
    Fault,
    NvmlFault,
    NvmlHang,
)
from lmxd.devices.nvml.library import Library
from lmxd.devices.pci import PciGpu, address

DRIVER: Final = "NVML"
"""The name by which NVML is asked for what is no card's alone."""
_WHOLE: Final = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NO_PERMISSION, ARGUMENT_VERSION})
"""Codes of a GPU or a driver that knows nothing of slices."""
_EMPTY: Final = frozenset({NOT_FOUND, INVALID_ARGUMENT, NOT_SUPPORTED})
"""Codes of a place for a slice where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One index of NVML: the card there, or the fault that keeps it from being known (no UUID) or used.

    ``place``: the name by which it is asked, one call at a time: its address, else its index.
    ``slices``: the handles of the MIG slices of a GPU that is divided, by UUID: they are devices, and the GPU is none.
    """

    index: int
    uuid: str = ""
    pci: str = ""
    place: str = ""
    handle: Any = None
    fault: Fault | None = None
    slices: dict[str, Any] = field(default_factory=dict)

    def goes_by(self, ref: int | str) -> bool:
        """Whether a name of the configuration means it."""
        return ref in (self.uuid, self.index) or (isinstance(ref, str) and bool(self.pci) and address(ref) == self.pci)


def inventory(library: Library, bus: Sequence[PciGpu], driver: CallRound, late: str) -> list[Listed]:
    """All that NVML counts, in its order, which is that of PCI addresses. Raises NvmlFault if it does not count.

    ``bus``: the cards on the PCI bus, of which those that do not answer may be one. ``late``: the reason of a call
    that does not come back.
    """
    (count,) = driver.ask({DRIVER: partial(library.require, "nvmlDeviceGetCount")}).values() or (None,)
    if count is None:
        raise NvmlHang(late)
    at = [card.address for card in bus] if len(bus) == count else [f"NVML's index {index}" for index in range(count)]
    told = driver.ask({place: partial(_seen, library, index) for index, place in enumerate(at)})
    seen = [
        replace(told.get(place) or Listed(index=index, fault=NvmlHang(late).fault()), place=place)
        for index, place in enumerate(at)
    ]
    answered = {s.pci for s in seen}
    silent = [card.address for card in bus if card.address not in answered]
    failing = [s.index for s in seen if s.fault is not None and not s.pci]
    addresses = dict(zip(failing, silent, strict=True)) if len(failing) == len(silent) else {}
    return [replace(s, pci=addresses.get(s.index, s.pci)) for s in seen]


def identified(seen: Sequence[Listed], known: Iterable[str]) -> list[Listed]:
    """The same without what goes by its index though ``known`` or others have UUIDs: it is one of these."""
    names = {*known, *(s.uuid for s in seen)} - {""}
    if all(name.isdecimal() for name in names):
        return list(seen)  # cards without UUIDs
    return [replace(s, uuid="", handle=None, fault=NO_UUID) if s.uuid.isdecimal() else s for s in seen]


def _seen(library: Library, index: int) -> Listed:
    pci = ""
    try:
        handle = library.require("nvmlDeviceGetHandleByIndex", index)
        pci = address(getattr(library.ask("nvmlDeviceGetPciInfo", handle), "busId", ""))
        uuid, slices = library.identity(handle, index), _slices(library, handle)
        fault = NO_SLICES if slices == {} else None
        return Listed(index=index, uuid=uuid, pci=pci, handle=handle, fault=fault, slices=slices or {})
    except NvmlFault as fault:
        return Listed(index=index, pci=pci, fault=fault.fault())


def _slices(library: Library, handle: Any) -> dict[str, Any] | None:
    """There are fewer than there could be. None of a GPU that is not divided. Raises NvmlFault."""
    try:
        if not library.require("nvmlDeviceGetMigMode", handle)[0]:
            return None
    except NvmlFault as fault:
        if fault.code not in _WHOLE:
            raise
        return None
    found = {}
    for number in range(library.require("nvmlDeviceGetMaxMigDeviceCount", handle)):
        try:
            slice = library.require("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
        except NvmlFault as fault:
            if fault.code not in _EMPTY:
                raise
        else:
            found[library.uuid(slice)] = slice
    return found
