"""The backends of llama.cpp that compute on GPUs, and the one that a build uses on a vendor's GPU."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from lmxd.vendor import Vendor


class Backend(StrEnum):
    """A backend of llama.cpp for GPUs, by the name that it gives its devices."""

    CUDA = "CUDA"
    ROCM = "ROCm"
    SYCL = "SYCL"
    VULKAN = "Vulkan"


BACKENDS_OF: Final[Mapping[Vendor, tuple[Backend, ...]]] = {
    Vendor.NVIDIA: (Backend.CUDA, Backend.VULKAN),
    Vendor.AMD: (Backend.ROCM, Backend.VULKAN),
    Vendor.INTEL: (Backend.SYCL, Backend.VULKAN),
}
"""The backends for the GPUs of each vendor, in the order in which llama.cpp takes the first that has the card."""


def for_vendor(backends: Collection[Backend] | None, vendor: Vendor | None) -> Backend | None:
    """The backend that runs on a vendor's GPUs; None if the build has none. Not knowing its backends, the usual one."""
    usual = BACKENDS_OF[vendor or Vendor.NVIDIA]
    return next((backend for backend in usual if backends is None or backend in backends), None)
