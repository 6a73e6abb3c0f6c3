"""Differences between builds of llama.cpp in the size of the compute buffer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Build:
    """A family of llama.cpp's builds, named by its first.

    Its figures count the copies of a micro-batch's embeddings that are alive beside a block: ``gpu_inputs`` on a card,
    ``host_inputs`` in RAM; ``pipeline`` on the first of several cards, on the others, and pinned on the host.
    ``known``: whether it was compared with what it prints.
    """

    first: int
    gpu_inputs: int
    host_inputs: int
    pipeline: tuple[int, int, int]
    known: bool = True


FAMILIES: Final = (Build(10400, 3, 4, (7, 11, 2)), Build(11400, 4, 5, (16, 7, 10)))
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
    return replace(nearest, known=False)
