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


_SUFFIX: Final = re.compile(r"\.gguf$", re.IGNORECASE)
_PLAIN: Final = re.compile(r"(?:ggml[-_.])?model(?=$|[-_.])", re.IGNORECASE)
_PARTIAL: Final = re.compile(r"(?:incomplete-|downloading_)", re.IGNORECASE)
"""Begins of names by which GPT4All and LM Studio call files that they have not fetched whole."""


def is_model_file(name: str) -> bool:
    """Whether a file's name is one of a GGUF file."""
    return _SUFFIX.search(name) is not None


def is_partial(name: str) -> bool:
    """Whether a file's name says that it is still being fetched."""
    return _PARTIAL.match(name) is not None


def says_nothing(name: str) -> bool:
    """Whether a file is called no more than ``model``, and by its quantization: its directory has its name."""
    return _PLAIN.match(stem_of(name)) is not None and stem_of(name.lower()).removeprefix("ggml-") in (
        "model",
        *(f"model{mark}{(quant_of(name) or '').lower()}" for mark in "-_."),
    )


def stem_of(name: str) -> str:
    """The name of a file without .gguf, and without the number of its part."""
    return _SPLIT.sub("", _SUFFIX.sub("", name.rpartition("/")[2]))


def quant_of(name: str) -> str | None:
    """The quantization that a file's name says, in capitals; None if it says none. The last word counts."""
    found = _QUANT.findall(stem_of(name))
    return found[-1].upper() if found else None


def named(repository: str, file: str) -> str:
    """The name of a file of a repository: the repository and its quantization, else its stem, if that says anything."""
    quant = quant_of(file) or ("" if says_nothing(file) else stem_of(file))
    return f"{repository}:{quant}" if quant else repository


def is_projector(name: str) -> bool:
    """Whether a file's name says that it turns pictures or sound into tokens, beside a model."""
    return "mmproj" in name.rpartition("/")[2].lower()
