"""The cards of AMD and Intel: what is in /sys/class/drm, and what is on the PCI bus without a driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.devices import pci
from lmxd.devices.drm.kernel_files import entries, pairs, text_or_nothing
from lmxd.devices.roots import Roots
from lmxd.vendor import Vendor

VENDORS: Final = {"amdgpu": Vendor.AMD, "i915": Vendor.INTEL, "xe": Vendor.INTEL}
"""Driver -> vendor. All others are of displays, of virtual machines, or measured by NVML."""
_DRIVERS: Final = {Vendor.AMD: "amdgpu", Vendor.INTEL: "xe or i915"}
_CARD: Final = re.compile(r"card(\d{1,6})")
_RENDER: Final = re.compile(r"renderD\d{1,6}")
_MOST_ID: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class DrmCard:
    """One card. ``path`` is its PCI device's directory; ``render`` the name of the node that programs open.

    ``driver`` is empty where no driver has it. ``serial``: its unique id, 0 if it has none.
    """

    number: int
    address: str
    driver: str
    vendor_id: int
    device_id: int
    serial: int
    render: str
    path: Path

    @property
    def vendor(self) -> Vendor:
        if self.driver:
            return VENDORS[self.driver]
        return next(vendor for vendor, number in pci.VENDOR_IDS.items() if number == self.vendor_id)

    @property
    def asleep(self) -> bool:
        """Returns whether its power is off until somebody uses it."""
        return _sleeps(self.path)


def cards(roots: Roots) -> list[DrmCard]:
    """The cards that a driver of ours has, by PCI address. One that goes away meanwhile is left out."""
    nodes = list(_nodes(roots))
    found: dict[str, DrmCard] = {}
    for name, device, address, driver in nodes:
        match = _CARD.fullmatch(name)  # card0-HDMI-A-1 is a connector
        if match and driver in VENDORS and address not in found:
            renders = sorted(other for other, _, at, _ in nodes if at == address and _RENDER.fullmatch(other))
            found[address] = DrmCard(
                number=int(match[1]),
                address=address,
                driver=driver,
                vendor_id=_hex(device / "vendor"),
                device_id=_hex(device / "device"),
                serial=_serial(text_or_nothing(device / "unique_id")),
                render=renders[0] if renders else "",
                path=device,
            )
    return sorted(found.values(), key=lambda card: pci.order(card.address))


def addresses(roots: Roots) -> dict[str, str]:
    """The PCI address of each node that a driver of ours has: card1, renderD128."""
    return {name: address for name, _, address, driver in _nodes(roots) if driver in VENDORS}


def any_sleeps(roots: Roots) -> bool:
    """Returns whether a card of the machine sleeps, whoever made it: a program that lists them all would wake it."""
    return any(_sleeps(entry / "device") for entry in entries(roots.sys / "class/drm") if _CARD.fullmatch(entry.name))


def undriven(roots: Roots) -> list[DrmCard]:
    """Graphics cards of AMD and Intel that no driver has yet: it is loaded late, or not at all."""
    found = []
    for vendor in _DRIVERS:
        for gpu in pci.gpus(roots.sys, vendor):
            if not gpu.driver:
                path = roots.sys / "bus/pci/devices" / gpu.address
                found.append(DrmCard(-1, gpu.address, "", pci.VENDOR_IDS[vendor], _hex(path / "device"), 0, "", path))
    return sorted(found, key=lambda card: pci.order(card.address))


def driver_wanted(card: DrmCard) -> str:
    """The name of the driver that a card without one needs."""
    return _DRIVERS[card.vendor]


def _sleeps(device: Path) -> bool:
    return text_or_nothing(device / "power/runtime_status") in ("suspended", "suspending")


def _nodes(roots: Roots) -> Iterator[tuple[str, Path, str, str]]:
    """(name, device's directory, PCI address, driver) of each entry that has an address."""
    for entry in entries(roots.sys / "class/drm"):
        if _CARD.fullmatch(entry.name) or _RENDER.fullmatch(entry.name):
            words = pairs(entry / "device/uevent", "=")
            address = pci.address(words.get("PCI_SLOT_NAME", ""))
            if address:
                yield entry.name, entry / "device", address, words.get("DRIVER", "")


def _hex(path: Path) -> int:
    """An identifier of 16 bits, as sysfs has it; 0 if there is none."""
    word = text_or_nothing(path)
    return int(word, 16) if re.fullmatch("0x[0-9a-fA-F]{1,4}", word) else 0


def _serial(word: str) -> int:
    """A unique id; 0 for an empty one and for those that stand for none."""
    value = int(word, 16) if re.fullmatch("(0x)?[0-9a-fA-F]{1,16}", word) else 0
    return 0 if value == _MOST_ID else value
