"""The memory of GPUs, by the names that NVML gives them: for questions about one that is not there."""

from __future__ import annotations

import re
from typing import Final

GIB: Final = 2**30
_RESERVED: Final = 2**29
"""Bytes that the driver keeps for itself (480 MiB on an H100)."""

_SIZES: Final = {
    "RTX 2060": 6, "RTX 2070": 8, "RTX 2080 TI": 11, "RTX 2080": 8, "RTX 3050": 8, "RTX 3060 TI": 8, "RTX 3060": 12,
    "RTX 3070": 8, "RTX 3080 TI": 12, "RTX 3080": 10, "RTX 3090": 24, "RTX 4060": 8, "RTX 4070 TI SUPER": 16,
    "RTX 4070": 12, "RTX 4080": 16, "RTX 4090": 24, "RTX 5060": 8, "RTX 5070 TI": 16, "RTX 5070": 12, "RTX 5080": 16,
    "RTX 5090": 32, "RTX A2000": 12, "RTX A4000": 16, "RTX A4500": 20, "RTX A5000": 24, "RTX A6000": 48,
    "RTX 6000 ADA": 48, "RTX PRO 6000": 96, "TESLA T4": 16, "TESLA P40": 24, "TESLA V100": 16, "L40S": 48, "L40": 48,
    "L4": 24, "A10": 24, "A40": 48, "A100": 40, "H100": 80, "H200": 141, "B200": 180, "GTX 1080 TI": 11, "GTX 1080": 8,
}  # fmt: skip
"""GB, where the name itself does not say it. Longer names come before those that they begin with."""


def memory_of(name: str) -> int | None:
    """Bytes that processes can have on an empty card of that name; None if it is not known."""
    said = re.search(r"(\d+) ?GB", name)
    if said:
        return int(said[1]) * GIB - _RESERVED
    spoken = re.sub(r"[^A-Z0-9 ]", " ", name.upper())
    fits = [key for key in _SIZES if re.search(rf"\b{key}\b", spoken)]
    return _SIZES[max(fits, key=len)] * GIB - _RESERVED if fits else None
