"""The memory of a card, as its driver tells it."""

from __future__ import annotations

from dataclasses import dataclass


class Unreadable(Exception):
    """A card's memory cannot be read. The message says why, ``remedy`` what to do."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFigures:
    """Bytes of one card. ``used`` is None where the driver does not tell us.

    ``unified``: they are the machine's bytes, but for ``own``, a part of RAM that the firmware took away from it.
    ``regions``: the names of the memories that count, in fdinfo; ``hidden``: of those that ``used`` does not contain.
    """

    total: int
    used: int | None
    unified: bool
    own: int = 0
    own_used: int = 0
    regions: tuple[str, ...]
    hidden: tuple[str, ...] = ()
