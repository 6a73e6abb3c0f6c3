"""Searches for what would fit: the largest context, the most slots, the fewest cards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lmxd.gguf.launch import Launch

_MOST_SLOTS = 256
"""LLAMA_MAX_SEQ: llama-server has no more."""


def largest_context(launch: Launch, fits: Callable[[Launch], bool], most: int, step: int = 256) -> int | None:
    """The largest context up to ``most``, in whole steps, for which ``fits``; None if there is none.

    Bytes grow with the context, so halving the interval finds it.
    """
    return largest(most, lambda n: fits(replace(launch, context=n)), step)


def largest(most: int, fits: Callable[[int], bool], step: int) -> int | None:
    """The largest number up to ``most``, in whole steps, that fits, where all below one that fits do; None if none."""
    return _most(most // step, lambda n: fits(n * step)) * step or None


def most_slots(launch: Launch, fits: Callable[[Launch], bool]) -> int | None:
    """The most slots of the context asked for that would fit; None if not one does."""
    return _most(_MOST_SLOTS, lambda n: fits(replace(launch, slots=n))) or None


def fewest_cards(fits: Callable[[int], bool], most: int = 16) -> int | None:
    """The number of equal cards that are needed; None if even ``most`` are not enough."""
    return next((n for n in range(1, most + 1) if fits(n)), None)


def first_that_fits(last: int, fits: Callable[[int], bool]) -> int | None:
    """The first number from 0 to ``last`` that fits, where all behind one that fits do; None if not one does."""
    fitting = _most(last + 1, lambda n: fits(last + 1 - n))
    return last + 1 - fitting if fitting else None


def _most(high: int, fits: Callable[[int], bool]) -> int:
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
