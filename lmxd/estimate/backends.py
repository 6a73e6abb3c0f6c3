"""The backends of llama.cpp that compute on GPUs, and the one that a build uses on a vendor's GPU."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final


class Backend(StrEnum):
    """A backend of llama.cpp that computes on GPUs."""

    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    SYCL = "sycl"

    @property
    def spoken(self) -> str:
        """The name as llama.cpp writes it."""
        return {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "sycl": "SYCL"}[self]


_BY_VENDOR: Final = {
    "nvidia": (Backend.CUDA, Backend.VULKAN),
    "amd": (Backend.ROCM, Backend.VULKAN),
    "intel": (Backend.SYCL, Backend.VULKAN),
}
"""Vendor -> the backends that its GPUs have, the vendor's own first: it is also what takes most."""


def usual(vendor: str | None, built: Collection[str] = ()) -> Backend:
    """The backend of a vendor's GPU in a build that has ``built``; the vendor's own where that is not known."""
    possible = _BY_VENDOR.get(vendor or "nvidia", (Backend.CUDA, Backend.VULKAN))
    return next((backend for backend in possible if backend in built), possible[0])
