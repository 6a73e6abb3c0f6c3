"""Differences between builds of llama.cpp in the size of the compute buffer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Build:
    """A family of llama.cpp's builds, from its ``first`` to its ``last`` one. It is named by the first.

    Its figures count the copies of a micro-batch's embeddings that are alive beside a block: ``gpu_inputs`` on a card,
    ``host_inputs`` in RAM; ``pipeline`` on the first of several cards, on the others, and pinned on the host.
    ``known``: whether it was compared with what it prints.
    """

    first: int
    last: int
    gpu_inputs: int
    host_inputs: int
    pipeline: tuple[int, int, int]
    known: bool = True


FAMILIES: Final = (Build(10068, 10499, 3, 4, (7, 11, 2)), Build(11400, 11499, 4, 5, (16, 7, 10)))
"""Builds 10068, 10092, 10434 and 11434 were compared (bench/estimator.py builds); others are near one of them."""
LATEST: Final = FAMILIES[-1]

_MARKS: Final = (("--kv-unified-per-slot", 11400), ("--fit", 10068))
"""A flag that came with a family."""


def family(version: str, flags: frozenset[str]) -> Build:
    """The family of a binary, by the number in what ``--version`` says; where there is none, by its flags.

    Some packages build llama-server outside its repository, and then it calls itself build 0 or 1. A build that is in
    no family is taken to be like the one before it, and is not known.
    """
    found = re.search(r"\b\d{4,6}\b", version)
    number = int(found[0]) if found else next((n for flag, n in _MARKS if flag in flags), 0)
    nearest = [build for build in FAMILIES if build.first <= number] or FAMILIES[:1]
    return replace(nearest[-1], known=nearest[-1].first <= number <= nearest[-1].last)
