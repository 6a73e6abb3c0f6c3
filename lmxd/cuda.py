"""Facts of CUDA GPUs by compute capability: the cores of a multiprocessor (SM), and the threads it keeps at once.

Sources: the table "Technical Specifications per Compute Capability" of NVIDIA's CUDA C++ Programming Guide (resident
threads), and _ConvertSMVer2Cores in helper_cuda.h of NVIDIA's cuda-samples (cores).
"""

from __future__ import annotations

from typing import Final

Capability = tuple[int, int]
"""A compute capability: (8, 9) is 8.9."""

_CORES_AND_THREADS: Final[dict[Capability, tuple[int, int]]] = {
    (5, 0): (128, 2048),
    (5, 2): (128, 2048),
    (5, 3): (128, 2048),
    (6, 0): (64, 2048),
    (6, 1): (128, 2048),
    (6, 2): (128, 2048),
    (7, 0): (64, 2048),
    (7, 2): (64, 2048),
    (7, 5): (64, 1024),
    (8, 0): (64, 2048),
    (8, 6): (128, 1536),
    (8, 7): (128, 1536),
    (8, 9): (128, 1536),
    (9, 0): (128, 2048),
    (10, 0): (128, 2048),
    (10, 1): (128, 1536),
    (10, 3): (128, 2048),
    (11, 0): (128, 1536),
    (12, 0): (128, 1536),
    (12, 1): (128, 1536),
}
_GUESS: Final = (128, 2048)
"""Of a capability that is not in the table: the cores of every one since 8.6, and the most threads of any."""


def is_known(compute: Capability) -> bool:
    """Returns whether the table has the capability; else all figures of it are a guess."""
    return compute in _CORES_AND_THREADS


def multiprocessors(cores: int, compute: Capability) -> int:
    """The multiprocessors of a GPU, or of a slice of one, that has so many cores."""
    return cores // _CORES_AND_THREADS.get(compute, _GUESS)[0]


def resident_threads(multiprocessors: int, compute: Capability) -> int:
    """The threads that so many multiprocessors keep at once."""
    return multiprocessors * _CORES_AND_THREADS.get(compute, _GUESS)[1]
