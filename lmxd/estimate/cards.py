"""GPUs by their names: for questions about one that is not there, and for what NVML does not say of one that is.

Figures are from the vendors' data sheets.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lmxd import cuda
from lmxd.estimate.backends import BACKENDS_OF, Backend, for_vendor
from lmxd.estimate.learned import Card
from lmxd.vendor import Vendor

GIB: Final = 2**30
_RESERVED: Final = 2**29
"""Bytes that the driver keeps for itself (480 MiB on an H100)."""

_NVIDIA: Final[dict[cuda.Capability, dict[str, tuple[int, int]]]] = {
    (6, 0): {"TESLA P100": (16, 56)},
    (6, 1): {
        "GTX 1060": (6, 10), "GTX 1070": (8, 15), "GTX 1070 TI": (8, 19), "GTX 1080": (8, 20), "GTX 1080 TI": (11, 28),
        "TITAN XP": (12, 30), "TESLA P4": (8, 20), "TESLA P40": (24, 30),
    },
    (7, 0): {"TESLA V100": (16, 80), "TITAN V": (12, 80)},
    (7, 5): {
        "GTX 1650": (4, 14), "GTX 1660": (6, 22), "GTX 1660 TI": (6, 24), "GTX 1660 SUPER": (6, 22),
        "RTX 2060": (6, 30), "RTX 2060 SUPER": (8, 34), "RTX 2070": (8, 36), "RTX 2070 SUPER": (8, 40),
        "RTX 2080": (8, 46), "RTX 2080 SUPER": (8, 48), "RTX 2080 TI": (11, 68), "TITAN RTX": (24, 72),
        "TESLA T4": (16, 40), "QUADRO RTX 4000": (8, 36), "QUADRO RTX 5000": (16, 48), "QUADRO RTX 6000": (24, 72),
        "QUADRO RTX 8000": (48, 72),
    },
    (8, 0): {"A30": (24, 56), "A100": (40, 108), "A800": (40, 108)},
    (8, 6): {
        "RTX 3050": (8, 20), "RTX 3060": (12, 28), "RTX 3060 TI": (8, 38), "RTX 3070": (8, 46), "RTX 3070 TI": (8, 48),
        "RTX 3080": (10, 68), "RTX 3080 TI": (12, 80), "RTX 3090": (24, 82), "RTX 3090 TI": (24, 84),
        "RTX 3060 LAPTOP": (6, 30), "RTX 3070 LAPTOP": (8, 40), "RTX 3080 LAPTOP": (16, 48),
        "RTX 3080 TI LAPTOP": (16, 58), "RTX A2000": (12, 26), "RTX A4000": (16, 48), "RTX A4500": (20, 56),
        "RTX A5000": (24, 64), "RTX A5500": (24, 80), "RTX A6000": (48, 84), "A2": (16, 10), "A10": (24, 72),
        "A10G": (24, 80), "A40": (48, 84), "A16": (16, 10), "RTX 3050 TI LAPTOP": (4, 20), "RTX 3080 12GB": (12, 70),
    },
    (8, 7): {"ORIN": (64, 16)},
    (8, 9): {
        "RTX 4060": (8, 24), "RTX 4060 TI": (8, 34), "RTX 4070": (12, 46), "RTX 4070 SUPER": (12, 56),
        "RTX 4070 TI": (12, 60), "RTX 4070 TI SUPER": (16, 66), "RTX 4080": (16, 76), "RTX 4080 SUPER": (16, 80),
        "RTX 4090": (24, 128), "RTX 4090 D": (24, 114), "RTX 4050 LAPTOP": (6, 20), "RTX 4060 LAPTOP": (8, 24),
        "RTX 4070 LAPTOP": (8, 36), "RTX 4080 LAPTOP": (12, 58), "RTX 4090 LAPTOP": (16, 76),
        "RTX 2000 ADA": (16, 22), "RTX 4000 ADA": (20, 48), "RTX 4500 ADA": (24, 60), "RTX 5000 ADA": (32, 100),
        "RTX 6000 ADA": (48, 142), "L4": (24, 58), "L40": (48, 142), "L40S": (48, 142), "L20": (48, 92),
        "RTX 4000 SFF ADA": (20, 48),
    },
    (9, 0): {
        "H100": (80, 132), "H100 PCIE": (80, 114), "H100 NVL": (94, 132), "H200": (141, 132), "H20": (96, 78),
        "H800": (80, 132), "GH200 480GB": (96, 132), "GH200 144G HBM3E": (144, 132), "H20 3E": (141, 78),
    },
    (10, 0): {"B200": (180, 148)},
    (11, 0): {"THOR": (122, 20)},
    (12, 0): {
        "RTX 5050": (8, 20), "RTX 5060": (8, 30), "RTX 5060 TI": (16, 36), "RTX 5070": (12, 48),
        "RTX 5070 TI": (16, 70), "RTX 5080": (16, 84), "RTX 5090": (32, 170), "RTX 5090 D": (32, 170),
        "RTX 5060 LAPTOP": (8, 26), "RTX 5070 LAPTOP": (8, 36), "RTX 5070 TI LAPTOP": (12, 46),
        "RTX 5080 LAPTOP": (16, 60), "RTX 5090 LAPTOP": (24, 82), "RTX PRO 2000": (16, 34), "RTX PRO 4000": (24, 70),
        "RTX PRO 4500": (32, 82), "RTX PRO 5000": (48, 110), "RTX PRO 6000": (96, 188),
    },
    (12, 1): {"GB10": (119, 48)},
}  # fmt: skip
"""Compute capability -> name -> (GB where the name itself does not say it, multiprocessors)."""
_OTHERS: Final[dict[Vendor, dict[str, int]]] = {
    Vendor.AMD: {
        "RX 6600": 8, "RX 6600 XT": 8, "RX 6700 XT": 12, "RX 6800": 16, "RX 6800 XT": 16, "RX 6900 XT": 16,
        "RX 6950 XT": 16, "RX 7600": 8, "RX 7600 XT": 16, "RX 7700 XT": 12, "RX 7800 XT": 16, "RX 7900 GRE": 16,
        "RX 7900 XT": 20, "RX 7900 XTX": 24, "RX 9060 XT": 16, "RX 9070": 16, "RX 9070 XT": 16, "PRO W7900": 48,
        "AI PRO R9700": 32, "MI50": 16, "MI60": 32, "MI100": 32, "MI210": 64, "MI300X": 192,
    },
    Vendor.INTEL: {
        "ARC A380": 6, "ARC A580": 8, "ARC A750": 8, "ARC A770": 16, "ARC B570": 10, "ARC B580": 12, "ARC PRO B50": 16,
        "ARC PRO B60": 24,
    },
}  # fmt: skip
"""Vendor -> name -> GB."""
_SLICE: Final = re.compile(r"\bMIG (\d+)G\.(\d+)GB")
_SLICES: Final = 7
_QUARTERED: Final = frozenset({"A30", "RTX PRO 6000"})
"""The parts of a GPU that MIG deals out; of these, it is four."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSheet:
    """The figures of a GPU's data sheet; those of CUDA's are 0 and None for other vendors."""

    name: str
    vendor: Vendor
    memory_gb: int
    multiprocessors: int = 0
    compute: cuda.Capability | None = None


_DATA_SHEETS: Final = {
    name: DataSheet(name=name, vendor=Vendor.NVIDIA, memory_gb=memory, multiprocessors=sms, compute=compute)
    for compute, named in _NVIDIA.items()
    for name, (memory, sms) in named.items()
} | {
    name: DataSheet(name=name, vendor=vendor, memory_gb=memory)
    for vendor, named in _OTHERS.items()
    for name, memory in named.items()
}


def memory_of(name: str) -> int | None:
    """Bytes that processes can have on an empty card of that name; None if it is not known."""
    slice, sheet = _SLICE.search(name.upper()), _data_sheet(name)
    if slice:
        return int(slice[2]) * GIB
    said = re.search(r"(\d+) ?GB", name)
    if said and (sheet is None or said[0] not in sheet.name):  # GH200 480GB: those are its processor's
        return int(said[1]) * GIB - _RESERVED
    return None if sheet is None else sheet.memory_gb * GIB - _RESERVED


def multiprocessors_of(name: str) -> tuple[int, cuda.Capability] | None:
    """(multiprocessors, compute capability) of an NVIDIA GPU of that name, or of a MIG slice; None if not known."""
    sheet, slice = _data_sheet(name), _SLICE.search(name.upper())
    if sheet is None or sheet.compute is None:
        return None
    if slice is None:
        return sheet.multiprocessors, sheet.compute
    parts = 4 if sheet.name in _QUARTERED else _SLICES
    return -(-sheet.multiprocessors * min(int(slice[1]), parts) // parts), sheet.compute


def card_of(
    name: str,
    *,
    driver: str = "",
    build: str = "",
    vendor: Vendor | None = None,
    cores: int = 0,
    compute: cuda.Capability | None = None,
    backends: Collection[Backend] | None = None,
) -> Card:
    """A GPU as the estimator sees it. ``cores`` and ``compute``: its CUDA cores (0 if unknown) and compute capability.

    ``backends``: of the engine's build; None if they are not known. NVML may count the whole GPU's cores for a slice:
    the fewer count.
    """
    sheet, by_name = _data_sheet(name), multiprocessors_of(name)
    sms = cuda.multiprocessors(cores, compute) if compute else 0
    if by_name is not None and (not sms or (_SLICE.search(name.upper()) and by_name[0] < sms)):
        sms, compute = by_name
    maker = vendor or (sheet.vendor if sheet else Vendor.NVIDIA)
    return Card(
        name=name,
        driver=driver,
        build=build,
        backend=for_vendor(backends, maker) or BACKENDS_OF[maker][0],
        multiprocessors=sms,
        compute=compute,
    )


@lru_cache(64)
def _data_sheet(name: str) -> DataSheet | None:
    """The data sheet of the longest name that is in this one. A laptop's GPU is another than its desktop namesake."""
    spoken = re.sub(r"[^A-Z0-9 ]", " ", name.upper())
    fits = [key for key in _DATA_SHEETS if re.search(rf"\b{key}\b", spoken)]
    found = max(fits, key=len, default=None)
    if found is None or ("LAPTOP" in spoken and "LAPTOP" not in found):
        return None
    return _DATA_SHEETS[found]
