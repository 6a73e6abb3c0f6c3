"""The variables that show an engine some GPUs and hide all others, by the runtime that it reaches them through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmxd.vendor import Vendor

_NOTHING: Final = "/dev/null"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU that an engine is to use: the id that lasts, its vendor, and its PCI address ("" if not known).

    ``rocm``: the number by which ROCm's runtime knows it, if it does. ``cuda``: the number by which CUDA does in the
    order of PCI addresses, if that is known for sure: no slice of a card has one.
    """

    id: str
    vendor: Vendor = Vendor.NVIDIA
    pci: str = ""
    rocm: int | None = None
    cuda: int | None = None


HIDDEN: Final = {
    "CUDA_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "-1",
    "GGML_VK_VISIBLE_DEVICES": "",
    "GGML_DISABLE_VULKAN": "1",
    "VK_DRIVER_FILES": _NOTHING,
    "VK_ICD_FILENAMES": _NOTHING,
    "VK_ADD_DRIVER_FILES": _NOTHING,
}
"""No GPU at all. An empty list of Vulkan's devices is not enough: its drivers are loaded to count them, and take
memory (28 MiB with Mesa's). The first of the others needs a llama.cpp of 2025, the rest is for older ones. SYCL is not
here: it fails where it finds no device."""
_OF_VENDORS: Final = frozenset(("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
VULKAN_SHOWN: Final = frozenset(name for name in HIDDEN if "VULKAN" in name or name.startswith("VK_"))
"""Of these, what must not be set for a launch that uses Vulkan: its drivers are needed."""
HIP_SHOWN: Final = frozenset({"HIP_VISIBLE_DEVICES"})
"""And for one that uses ROCm: it counts what ROCR_VISIBLE_DEVICES has left."""


def by_cuda(gpus: Sequence[Gpu]) -> dict[str, str]:
    """CUDA takes UUIDs."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpu.id for gpu in gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def by_number(gpus: Sequence[Gpu]) -> dict[str, str]:
    """CUDA takes numbers, too, and some programs nothing else (vLLM until 0.23). UUIDs, if one is not known."""
    if any(gpu.cuda is None for gpu in gpus):
        return by_cuda(gpus)
    return by_cuda(gpus) | {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu.cuda) for gpu in gpus)}


def by_rocm(gpus: Sequence[Gpu]) -> dict[str, str] | None:
    """ROCm takes UUIDs, or numbers; None if a card's is not known.

    CUDA_VISIBLE_DEVICES is empty then, which HIP takes for unset.
    """
    words = [gpu.id if gpu.id.startswith("GPU-") else "" if gpu.rocm is None else str(gpu.rocm) for gpu in gpus]
    return {"ROCR_VISIBLE_DEVICES": ",".join(words)} if all(words) else None


def natively(gpus: Sequence[Gpu], *, numbered: bool = True) -> dict[str, str] | None:
    """For a program of which only its user knows how it reaches a GPU: by its vendor's runtime, with those of the
    others hidden. None if a card cannot be named; Intel's cannot. Vulkan is the program's own affair.

    ``numbered``: it counts the cards as we do, which one in a container of its own may not.
    """
    vendors = {gpu.vendor for gpu in gpus}
    if vendors <= {Vendor.NVIDIA}:
        return _hidden(_OF_VENDORS) | (by_number(gpus) if numbered else by_cuda(gpus))
    if vendors == {Vendor.AMD} and (found := by_rocm(gpus)) is not None:
        return _hidden(_OF_VENDORS - HIP_SHOWN) | found
    return None


def _hidden(names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in HIDDEN.items() if name in names}


def shown(variables: dict[str, str], *, keep: frozenset[str] = frozenset()) -> dict[str, str]:
    """Everything hidden but what ``variables`` show. ``keep``: names that stay as they are inherited."""
    return _hidden(frozenset(HIDDEN) - keep) | variables
