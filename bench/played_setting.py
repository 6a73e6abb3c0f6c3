"""How instances of bench/elastic_played.py are sized, and what they are charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

GIB = 2**30
OTHER, CELL = 4900 * 2**20, 128 * 1024
"""Bytes of an instance beside its cache, and of a token in it: Llama 3.1 8B in 4 bits, as estimated for an H100."""
Place: TypeAlias = tuple[str, int]
"""An instance, and one of its slots."""


def charge(cells: int) -> int:
    """Bytes of an instance with so many cells."""
    return OTHER + cells * CELL


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """``slots``: of an instance of the first of ``steps``; ``apart``: a conversation keeps apart from others.

    ``idle``: seconds until an unused instance ends; ``limit``: bytes of the card; ``last``: the fewest slots of an
    instance of the last step. ``sizes``: of instances whose slots are shares of one cache, of which a conversation has
    as many as it needs: the slots of each, ascending.
    """

    steps: tuple[int, ...]
    slots: int
    apart: bool
    idle: float
    limit: int
    last: int = 1
    sizes: tuple[int, ...] = ()

    @property
    def elastic(self) -> bool:
        return len(self.steps) > 1

    def step(self, tokens: int) -> int:
        if self.sizes:
            return -(-tokens // self.steps[0]) * self.steps[0]
        return next((step for step in self.steps if step >= tokens), self.steps[-1])

    def of(self, step: int, least: int = 0) -> dict[str, Any]:
        """What is asked for at a step; ``least``: the fewest shares that one cache is to have."""
        said: dict[str, Any] = {"elastic": self.elastic, "idle_timeout": self.idle}
        if self.sizes:
            own = step // self.steps[0]
            spread = next((size for size in self.sizes if size >= max(own, least)), self.sizes[-1])
            cells = spread * self.steps[0]
            return said | {
                "gib": charge(cells) / GIB, "context": cells, "slots": own, "spread": spread, "unified": True
            }  # fmt: skip
        least = self.last if step == self.steps[-1] else 1
        spread = max(least, self.slots * self.steps[0] // step)
        return said | {"gib": charge(spread * step) / GIB, "context": step, "spread": spread}
