"""What differs between builds of llama.cpp in the size of the compute buffer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Build:
    """A family of builds, named by its first. ``gpu_inputs`` and ``host_inputs``: how often a micro-batch's

    embeddings are alive beside a block. ``known``: whether it was compared with what it prints.
    """

    first: int
    gpu_inputs: int
    host_inputs: int
    known: bool = True


FAMILIES: Final = (Build(10400, 3, 4), Build(11400, 4, 5))
LATEST: Final = FAMILIES[-1]
_TO: Final = 11500
"""Builds from here on are newer than any that was looked at."""

_MARKS: Final = (("--kv-unified-per-slot", 11400), ("--fit", 10400))
"""A flag that came with a family."""


def family(version: str, flags: frozenset[str]) -> Build:
    """The family of a binary, by the number in what ``--version`` says; where there is none, by its flags.

    Some packages build llama-server outside its repository, and then it calls itself build 0 or 1.
    """
    found = re.search(r"\b\d{4,6}\b", version)
    number = int(found[0]) if found else next((n for flag, n in _MARKS if flag in flags), 0)
    fits = [build for build in FAMILIES if build.first <= number < _TO]
    if fits:
        return fits[-1]
    nearest = FAMILIES[0] if number < FAMILIES[0].first else LATEST
    return Build(nearest.first, nearest.gpu_inputs, nearest.host_inputs, known=False)
