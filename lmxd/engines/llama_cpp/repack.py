"""The weights that llama.cpp's CPU backend rearranges into a second copy, by what the CPU at hand can do.

Source: ggml/src/ggml-cpu/repack.cpp of build 11434, for x86 and for ARM with dot products.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_BY_FEATURE: Final = {
    "avx2": "q4_0 q4_k iq4_nl mxfp4",
    "avx512f": "q2_k",
    "asimddp": "q4_0 q4_k q5_k q6_k q8_0 iq4_nl mxfp4",
}


@cache
def repacked_types(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Names of tensor types; empty if the CPU does not say what it can."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    features = set(next(lines, "").split())
    return frozenset(name for feature, names in _BY_FEATURE.items() if feature in features for name in names.split())
