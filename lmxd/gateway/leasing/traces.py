"""Traces of prompts: a few numbers that tell how far two of them agree. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, TypeAlias

_BLOCK: Final = 128
"""Bytes that are compared at a time, some 30 tokens: a prompt of a megabyte is 8,000 numbers."""
_MOST: Final = 2**23
"""Bytes of a prompt that are looked at, two million tokens or some pictures: bodies may be larger, and slots many."""
Trace: TypeAlias = Sequence[int]
"""A number for each whole block of a prompt, of it and of all before it: it tells how far two prompts agree."""


def trace(prompt: bytes) -> Trace:
    found, before = array("q"), 0
    for end in range(_BLOCK, min(len(prompt), _MOST) + 1, _BLOCK):
        before = hash((before, prompt[end - _BLOCK : end]))
        found.append(before)
    return found


def agreeing(one: Trace, other: Trace) -> int:
    """The number of blocks that both begin with."""
    return bisect_left(range(min(len(one), len(other))), True, key=lambda n: one[n] != other[n])


def gained(seen: Trace, prompt: Trace) -> int:
    """Blocks of a prompt that need not be computed where ``seen`` lies, less those of it that are lost. At least 0:
    a prompt that is lost may be one of which nothing is heard again."""
    common = agreeing(seen, prompt)
    return max(0, common - (len(seen) - common))
