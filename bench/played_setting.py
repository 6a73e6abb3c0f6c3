"""How instances of bench/elastic_played.py are sized, and what lies in the slots of a cache that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias

from lmxd.gateway.leasing.slots import GOES_ON

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
    instance of the last step. ``unified``: slots are shares of one cache, and a conversation has as many as it needs.
    """

    steps: tuple[int, ...]
    slots: int
    apart: bool
    idle: float
    limit: int
    last: int = 1
    unified: bool = False

    @property
    def elastic(self) -> bool:
        return len(self.steps) > 1

    @property
    def cells(self) -> int:
        """Tokens in all slots of an instance of the first step."""
        return self.slots * self.steps[0]

    def step(self, tokens: int) -> int:
        if self.unified:
            return -(-tokens // self.steps[0]) * self.steps[0]
        return next((step for step in self.steps if step >= tokens), self.steps[-1])

    def of(self, step: int) -> dict[str, Any]:
        """What is asked for at a step."""
        said: dict[str, Any] = {"elastic": self.elastic, "idle_timeout": self.idle}
        if self.unified:
            shares = {"slots": step // self.steps[0], "spread": self.slots, "unified": True}
            return said | shares | {"gib": charge(self.cells) / GIB, "context": self.cells}
        least = self.last if step == self.steps[-1] else 1
        spread = max(least, self.slots * self.steps[0] // step)
        return said | {"gib": charge(spread * step) / GIB, "context": step, "spread": spread}


@dataclass(slots=True)
class Shared:
    """The tokens that lie in each slot of instances of one cache. ``used``: when the last turn in a slot ended."""

    cells: int
    used: Mapping[Place, float]
    _lie: dict[Place, int] = field(default_factory=dict)

    def has(self, place: Place) -> bool:
        """Whether a slot has kept what lay there."""
        return place in self._lie

    def fill(self, place: Place, tokens: int) -> None:
        """Have a slot take so many cells. Where there are too few, idle slots lose theirs, as in llama-server: in the
        order of their numbers."""
        self._lie[place] = tokens
        beside = sorted(other for other in self._lie if other[0] == place[0])
        idle = iter([other for other in beside if self.used[other] < inf])
        while sum(self._lie.get(other, 0) for other in beside) > self.cells:
            del self._lie[next(idle)]

    def full(self, instances: Iterable[str], now: float, own: Place | None, tokens: int) -> list[str]:
        """Those in which conversations that go on leave no room for one of so many tokens, which may lie in ``own``."""
        goes_on = {p: n for p, n in self._lie.items() if p != own and now - self.used[p] < GOES_ON}
        return [
            name
            for name in instances
            if sum(n for place, n in goes_on.items() if place[0] == name) + tokens > self.cells
        ]
