"""Names of cards: of the driver, else of the machine's list of PCI devices, else the numbers."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.kernel_files import text_or_nothing
from lmxd.devices.measurement import Vendor

_MAKERS: Final = {Vendor.AMD: "AMD", Vendor.INTEL: "Intel"}
LISTS: Final = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))
"""Where distributions have the list of PCI devices."""
_LONGEST: Final = 48
"""Letters of a name: a list of all boards with one chip is longer, and then the chip's name is the clearer one."""


def name(card: DrmCard, lists: tuple[Path, ...]) -> str:
    """The name of a card as its owner may know it. ``lists``: files in the form of pci.ids."""
    maker = _MAKERS[card.vendor]
    said = text_or_nothing(card.path / "product_name") or _listed(lists, card.vendor_id, card.device_id)
    if said and said.isprintable():
        return said if said.startswith(maker) else f"{maker} {said}"
    return f"{maker} GPU {card.vendor_id:04x}:{card.device_id:04x}"


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
