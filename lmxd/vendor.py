"""The makers of GPUs."""

from __future__ import annotations

from enum import StrEnum


class Vendor(StrEnum):
    """The maker of a GPU, which decides what an engine must be built with and how it is told which card to use."""

    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"

    @property
    def brand(self) -> str:
        """The vendor's name as people write it."""
        return "Intel" if self is Vendor.INTEL else self.value.upper()
