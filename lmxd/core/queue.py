"""The waiting tickets in their order, kept sorted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmxd.core.instances import Ticket


class Queue:
    """By rank, and of the same rank by arrival. A rank is a time: the lower stands before the higher."""

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Ticket]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Ticket]:
        """In order, as it is now: it may be changed meanwhile."""
        return (ticket for _, _, ticket in self._order.copy())

    def __contains__(self, ticket: Ticket) -> bool:
        place = self._place(ticket)
        return place < len(self._order) and self._order[place][2] is ticket

    @property
    def head(self) -> Ticket | None:
        return self._order[0][2] if self._order else None

    def add(self, ticket: Ticket) -> None:
        insort(self._order, (ticket.rank, ticket.number, ticket))

    def remove(self, ticket: Ticket) -> None:
        assert ticket in self
        del self._order[self._place(ticket)]

    def position(self, ticket: Ticket) -> int:
        """From 1."""
        return self._place(ticket) + 1

    def rank_anew(self, rank: Callable[[Ticket], float]) -> None:
        for _, _, ticket in self._order:
            ticket.rank = rank(ticket)
        self._order = sorted((ticket.rank, ticket.number, ticket) for _, _, ticket in self._order)

    def _place(self, ticket: Ticket) -> int:
        return bisect_left(self._order, (ticket.rank, ticket.number))
