"""The waiting tickets in their order, kept sorted: all of them, and the first of each group that wants the same."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, KeysView
from typing import TypeAlias

from lmxd.core.instances import Ticket
from lmxd.core.words import Group, Kind

Entry: TypeAlias = tuple[float, int, Ticket]
"""Rank, number, ticket: the numbers differ, so that tickets are never compared."""


class Queue:
    """By rank, and of the same rank by arrival. A rank is a time: the lower stands before the higher.

    Tickets whose asks say the same (``Ask.group``) stand in one group: where the first of them cannot be
    served, none of them can.
    """

    def __init__(self) -> None:
        self._order: list[Entry] = []
        self._groups: dict[Group, list[Entry]] = {}
        self._kinds: dict[Kind, dict[Group, None]] = {}
        self._fronts: list[Entry] = []

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Ticket]:
        """In order, as it is now: it may be changed meanwhile."""
        return (ticket for _, _, ticket in self._order.copy())

    def __contains__(self, ticket: Ticket) -> bool:
        place = bisect_left(self._order, (ticket.rank, ticket.number))
        return place < len(self._order) and self._order[place][2] is ticket

    @property
    def head(self) -> Ticket | None:
        return self._order[0][2] if self._order else None

    @property
    def kinds(self) -> KeysView[Kind]:
        """What those who wait want."""
        return self._kinds.keys()

    def of(self, *kinds: Kind) -> Iterator[Ticket]:
        """Those who wait for any of them, in order, as it is now."""
        groups = [group for kind in kinds for group in self._kinds.get(kind, ())]
        entries = [entry for group in groups for entry in self._groups[group]]
        return (ticket for _, _, ticket in (sorted(entries) if len(groups) > 1 else entries))

    def fronts(self) -> Iterator[Ticket]:
        """The first of each group, in order, as it is now."""
        return (ticket for _, _, ticket in self._fronts.copy())

    def group(self, ticket: Ticket) -> Iterator[Ticket]:
        """All who want the same as ``ticket``, in order, as it is now."""
        return (each for _, _, each in self._groups.get(ticket.ask.group, []).copy())

    def add(self, ticket: Ticket) -> None:
        entry = (ticket.rank, ticket.number, ticket)
        insort(self._order, entry)
        group = self._groups.setdefault(ticket.ask.group, [])
        if not group:
            self._kinds.setdefault(ticket.ask.kind, {})[ticket.ask.group] = None
        elif entry < group[0]:
            _take_out(self._fronts, group[0])
        insort(group, entry)
        if group[0] is entry:
            insort(self._fronts, entry)

    def remove(self, ticket: Ticket) -> None:
        entry = (ticket.rank, ticket.number, ticket)
        _take_out(self._order, entry)
        group = self._groups[ticket.ask.group]
        was_front = group[0][2] is ticket
        _take_out(group, entry)
        if was_front:
            _take_out(self._fronts, entry)
            if group:
                insort(self._fronts, group[0])
        if not group:
            del self._groups[ticket.ask.group]
            kind = self._kinds[ticket.ask.kind]
            del kind[ticket.ask.group]
            if not kind:
                del self._kinds[ticket.ask.kind]

    def position(self, ticket: Ticket) -> int:
        """From 1."""
        return bisect_left(self._order, (ticket.rank, ticket.number)) + 1

    def rank_anew(self, rank: Callable[[Ticket], float], tickets: Iterable[Ticket]) -> None:
        """Put ``tickets`` where they stand by now."""
        groups = set()
        for ticket in tickets:
            ticket.rank = rank(ticket)
            groups.add(ticket.ask.group)
        if not groups:
            return
        self._order = sorted([(t.rank, t.number, t) for _, _, t in self._order])
        for name in groups:
            self._groups[name] = sorted([(t.rank, t.number, t) for _, _, t in self._groups[name]])
        self._fronts = sorted([group[0] for group in self._groups.values()])

    def some(self, start: int, count: int) -> list[Ticket]:
        """Those at so many positions from ``start`` on, counted from 0."""
        return [ticket for _, _, ticket in self._order[start : start + count]]


def _take_out(entries: list[Entry], entry: Entry) -> None:
    place = bisect_left(entries, (entry[0], entry[1]))
    assert entries[place][2] is entry[2], "a ticket was ranked anew behind the queue's back"
    del entries[place]
