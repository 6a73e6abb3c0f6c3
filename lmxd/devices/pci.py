"""The graphics cards on the PCI bus, whether or not a driver answers for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lmxd.vendor import Vendor

_DISPLAY = 0x03
"""The PCI class of graphics cards, those without a connector included."""
VENDOR_IDS: Final = {Vendor.NVIDIA: 0x10DE, Vendor.AMD: 0x1002, Vendor.INTEL: 0x8086}
_GIVEN_AWAY = {"vfio-pci", "pci-stub", "xen-pciback"}
"""Drivers that hold a card for a virtual machine: it is no card of this one."""
_ADDRESS = re.compile(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


class PciGpu(NamedTuple):
    """A graphics card on the PCI bus. ``driver``: the kernel's, "" if none has it. ``seat``: changes if it was out."""

    address: str
    vendor: Vendor
    driver: str
    seat: int


def gpus(sys: Path, vendor: Vendor) -> tuple[PciGpu, ...]:
    """The graphics cards of one maker that are this machine's to use, by address."""
    return tuple(sorted(_found(sys / "bus/pci/devices", vendor)))


def _found(devices: Path, vendor: Vendor) -> Iterator[PciGpu]:
    try:
        entries = os.listdir(devices)
    except OSError:
        return  # a machine without a PCI bus
    for entry in entries:
        path = devices / entry
        try:
            if _number(path / "vendor") != VENDOR_IDS[vendor] or _number(path / "class") >> 16 != _DISPLAY:
                continue
            seat = path.stat().st_ino
        except (OSError, ValueError):
            continue  # it is just being taken out
        driver = _link(path / "driver")
        if driver not in _GIVEN_AWAY:
            yield PciGpu(address(entry), vendor, driver, seat)


def _number(path: Path) -> int:
    return int(path.read_text(), 16)


def _link(path: Path) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


def address(said: object) -> str:
    """A PCI address as the kernel writes it, 0000:03:00.0, of one that may lack a domain or have a longer one.

    What is no address comes back as "".
    """
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    parts = text.strip().strip("\0").lower().split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    found = _ADDRESS.fullmatch(":".join(parts))
    if found is None:
        return ""
    domain, bus, device, function = found.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}"


def order(address: str) -> tuple[int, ...]:
    """The key that sorts PCI addresses as numbers: a domain may have more digits than four."""
    return tuple(int(part, 16) for part in re.split("[:.]", address))
