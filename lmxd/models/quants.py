"""Names of model files: their quantization, and the name that a repository and it make."""

from __future__ import annotations

import re
from typing import Final

_QUANT: Final = re.compile(
    r"(?<![A-Za-z0-9])((?:UD-)?(?:i?q[1-9](?:_[a-z0-9]+)*|tq[12]_0|mxfp4(?:_moe)?|nvfp4|bf16|f16|f32|fp16|fp32))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
"""A quantization as llama.cpp and repositories write it: Q4_K_M, UD-IQ2_XXS, MXFP4_MOE, BF16."""
_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}$")


def stem_of(name: str) -> str:
    """The name of a file without .gguf, and without the number of its part."""
    return _SPLIT.sub("", name.rpartition("/")[2].removesuffix(".gguf"))


def quant_of(name: str) -> str | None:
    """The quantization that a file's name says, in capitals; None if it says none. The last word counts."""
    found = _QUANT.findall(stem_of(name))
    return found[-1].upper() if found else None


def named(repository: str, file: str) -> str:
    """The name of a file of a repository: the repository and its quantization, else the repository and its stem."""
    return f"{repository}:{quant_of(file) or stem_of(file)}"


def is_projector(name: str) -> bool:
    """Whether a file's name says that it turns pictures or sound into tokens, beside a model."""
    return "mmproj" in name.rpartition("/")[2].lower()
