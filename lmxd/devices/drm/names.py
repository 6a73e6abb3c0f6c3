"""Names of cards: of the driver, else those that models run on, else of the machine's list, else the numbers."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.kernel_files import text_or_nothing
from lmxd.vendor import Vendor

_KNOWN: Final = {
    (Vendor.AMD, 0x744C): "Radeon RX 7900 series",
    (Vendor.AMD, 0x7448): "Radeon PRO W7900",
    (Vendor.AMD, 0x747E): "Radeon RX 7800 XT, 7700 XT",
    (Vendor.AMD, 0x7480): "Radeon RX 7600 series",
    (Vendor.AMD, 0x73BF): "Radeon RX 6900 XT, 6800",
    (Vendor.AMD, 0x73DF): "Radeon RX 6700 series",
    (Vendor.AMD, 0x73FF): "Radeon RX 6600 series",
    (Vendor.AMD, 0x7550): "Radeon RX 9070 series",
    (Vendor.AMD, 0x7590): "Radeon RX 9060 series",
    (Vendor.AMD, 0x740F): "Instinct MI210",
    (Vendor.AMD, 0x74A0): "Instinct MI300A",
    (Vendor.AMD, 0x74A1): "Instinct MI300X",
    (Vendor.AMD, 0x1586): "Radeon 8060S, 8050S",
    (Vendor.AMD, 0x150E): "Radeon 890M, 880M",
    (Vendor.AMD, 0x15BF): "Radeon 780M, 760M",
    (Vendor.AMD, 0x1900): "Radeon 780M, 760M",
    (Vendor.AMD, 0x1681): "Radeon 680M, 660M",
    (Vendor.AMD, 0x163F): "GPU of the Steam Deck",
    (Vendor.AMD, 0x1435): "GPU of the Steam Deck OLED",
    (Vendor.INTEL, 0xE20B): "Arc B580",
    (Vendor.INTEL, 0xE20C): "Arc B570",
    (Vendor.INTEL, 0x56A0): "Arc A770",
    (Vendor.INTEL, 0x56A1): "Arc A750",
    (Vendor.INTEL, 0x56A5): "Arc A380",
    (Vendor.INTEL, 0x64A0): "Arc 140V, 130V",
    (Vendor.INTEL, 0x7D55): "Arc Graphics",
    (Vendor.INTEL, 0x7D51): "Arc 140T, 130T",
    (Vendor.INTEL, 0x9A49): "Iris Xe Graphics",
    (Vendor.INTEL, 0x46A6): "Iris Xe Graphics",
    (Vendor.INTEL, 0xA7A0): "Iris Xe Graphics",
    (Vendor.INTEL, 0xA780): "UHD Graphics 770",
}
"""The boards of one number go by one name. Shorter than in the list, which a server may not have."""
LISTS: Final = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))
"""Where distributions have the list of PCI devices."""
_LONGEST: Final = 48
"""Letters of a name: a list of all boards with one chip is longer, and then the chip's name is the clearer one."""


def name(card: DrmCard, lists: tuple[Path, ...]) -> str:
    """The name of a card as its owner may know it. ``lists``: files in the form of pci.ids."""
    brand = card.vendor.brand
    said = (
        text_or_nothing(card.path / "product_name")
        or _KNOWN.get((card.vendor, card.device_id), "")
        or _listed(lists, card.vendor_id, card.device_id)
    )
    if said and said.isprintable():
        return said if said.startswith(brand) else f"{brand} {said}"
    return f"{brand} GPU {card.vendor_id:04x}:{card.device_id:04x}"


@lru_cache(maxsize=64)
def _listed(lists: tuple[Path, ...], vendor: int, device: int) -> str:
    """The entry of pci.ids: ``Navi 33 [Radeon RX 7600]`` is the Radeon RX 7600."""
    for path in lists:
        section = re.search(rf"^{vendor:04x}  .*\n((?:[\t#].*\n?|\n)*)", text_or_nothing(path), re.MULTILINE)
        entry = section and re.search(rf"^\t{device:04x}  (.+)$", section[1], re.MULTILINE)
        if entry:
            chip, _, rest = entry[1].partition(" [")
            board = rest.rstrip("]")
            return board if 0 < len(board) <= _LONGEST else chip
    return ""
