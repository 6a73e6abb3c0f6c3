"""Mesa's software driver for Vulkan, where this machine has it: a Vulkan device that needs no GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_PLACES = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")


def manifest() -> Path:
    """The file that names the driver to the loader: of VK_DRIVER_FILES, else where distributions put it."""
    named = [Path(name) for name in os.environ.get("VK_DRIVER_FILES", "").split(":") if name]
    for path in (*named, *(found for place in _PLACES for found in sorted(Path(place).glob("*.json")))):
        if path.name.startswith("lvp_icd"):
            return path
    pytest.skip("there is no lavapipe here (Debian: mesa-vulkan-drivers)")
