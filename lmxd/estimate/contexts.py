"""The bytes that a process takes on a GPU besides its buffers: as they were learned, else a prior by the card.

A CUDA context is above all the stacks of all threads that the card can keep at once. Measured on an H100 (132 SMs of
2,048 threads): 386 MiB at a stack of 512 bytes, 518 at the default of 1,024, 782 at 2,048, 1,310 at 4,096, which is
254 MiB and a stack for each thread. Public figures of nine cards are, within 5 %, 2 KiB for each thread: RTX 3090
256 MiB, RTX 4060 Ti 107, RTX 4090 384, RTX 5090 506, RTX 6000 Ada 426, RTX PRO 6000 555, H100 518, H200 520, B200 612.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmxd import cuda
from lmxd.estimate.backends import Backend
from lmxd.estimate.cards import multiprocessors_of
from lmxd.estimate.learned import Card, Learned
from lmxd.estimate.overhead import MIB

PER_THREAD: Final = 2048
"""Bytes of a CUDA context for each thread that the card can keep at once."""
ADDED: Final = 68 * MIB
"""Bytes that llama-server adds: 59 to 66 MiB in 133 launches on an H100, and a margin that makes its figure 596 MiB, as
it was before; on an RTX 4090 it added 67 to 72 (llama.cpp's pull request 15860)."""
UNKNOWN: Final = 596 * MIB
"""Of a CUDA card of which nothing is known: that of an H100."""

_MEASURED_ERROR: Final = 8 * MIB
_CONFIRMED_ERROR: Final = 48 * MIB
_OTHER_ERROR: Final = 96 * MIB
UNKNOWN_ERROR: Final = 480 * MIB
"""Smaller cards were reported to take as little as 107 MiB."""

_MEASURED: Final = frozenset({"NVIDIA H100 80GB HBM3"})
"""The cards on which launches of llama-server were measured."""
_CONFIRMED: Final = frozenset({(8, 6), (8, 9), (9, 0), (10, 0), (12, 0)})
"""The compute capabilities of which there is a public figure."""

_OTHERS: Final = {
    Backend.ROCM: (410 * MIB, 256 * MIB, "prior of ROCm: 0.4 GiB, as seen on an RX 7900 XTX"),
    Backend.VULKAN: (256 * MIB, 256 * MIB, "a guess for Vulkan: nothing was measured"),
    Backend.SYCL: (512 * MIB, 512 * MIB, "a guess for SYCL: nothing was measured"),
}
"""(bytes, plus or minus, the source) of the backends that have no formula. Public logs of llama.cpp with ROCm have
253 MiB beside the buffers on an MI50, and 313 on a card of 16 GB: the most that was seen is taken."""


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """The bytes that a process takes on a card besides its buffers, plus or minus ``error``, and the source of it."""

    size: int
    error: int
    source: str

    def as_dict(self) -> dict[str, int | str]:
        return {"bytes": self.size, "error": self.error, "source": self.source}


def context(card: Card, learned: Learned) -> ProcessContext:
    """The context of a process on a card: as it was learned, else the prior."""
    seen = learned.context(card)
    if seen is None:
        return prior(card)
    count = learned.launches(card)
    return ProcessContext(*seen, f"learned from {count} launch{'es' if count != 1 else ''}")


def prior(card: Card) -> ProcessContext:
    """The context of a process on a card on which none was seen yet."""
    if card.backend is not Backend.CUDA:
        return ProcessContext(*_OTHERS[card.backend])
    sms, compute = (card.multiprocessors, card.compute) if card.compute else multiprocessors_of(card.name) or (0, None)
    if not sms or compute is None:
        return ProcessContext(UNKNOWN, UNKNOWN_ERROR, "prior of an H100: nothing is known of this card")
    size = PER_THREAD * cuda.resident_threads(sms, compute) + ADDED
    return ProcessContext(size, _error(card.name, compute), f"prior of compute {compute[0]}.{compute[1]}, {sms} SMs")


def _error(name: str, compute: cuda.Capability) -> int:
    if name in _MEASURED:
        return _MEASURED_ERROR
    if compute in _CONFIRMED:
        return _CONFIRMED_ERROR
    return _OTHER_ERROR if cuda.is_known(compute) else UNKNOWN_ERROR
