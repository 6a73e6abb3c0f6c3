"""The waiting tickets in order of rank: all of them, and the first of each group that asks for the same."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, KeysView
from math import inf
from typing import Final, TypeAlias

from lmxd.core.holders import Ticket
from lmxd.core.rules import Policy
from lmxd.core.words import Group, Kind, User

_FEW: Final = 32
"""If less than one ticket in so many is ranked anew, each is moved by itself. For more, one sort is faster."""
QueueEntry: TypeAlias = tuple[float, int, Ticket]
"""Rank, number, ticket. The numbers differ, so that two tickets are never compared."""


class Queue:
    """Tickets by rank, and of the same rank by arrival. A rank is a time: the lower stands before the higher.

    Tickets whose asks are equal (``Ask.group``) form a group: if the first of them cannot be served, the others cannot
    either.
    """

    def __init__(self) -> None:
        self._order: list[QueueEntry] = []
        self._groups: dict[Group, list[QueueEntry]] = {}
        self._kinds: dict[Kind, dict[Group, None]] = {}
        self._fronts: list[QueueEntry] = []
        self._by_user: dict[User, dict[int, Ticket]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Ticket]:
        """A copy in order of rank: the queue may change during the loop."""
        return (ticket for _, _, ticket in self._order.copy())

    def __contains__(self, ticket: Ticket) -> bool:
        place = bisect_left(self._order, (ticket.rank, ticket.number))
        return place < len(self._order) and self._order[place][2] is ticket

    @property
    def head(self) -> Ticket | None:
        return self._order[0][2] if self._order else None

    @property
    def kinds(self) -> KeysView[Kind]:
        """The kinds that tickets wait for."""
        return self._kinds.keys()

    def of(self, *kinds: Kind) -> Iterator[Ticket]:
        """A copy of the tickets that wait for any of ``kinds``, in order."""
        groups = [group for kind in kinds for group in self._kinds.get(kind, ())]
        entries = [entry for group in groups for entry in self._groups[group]]
        return (ticket for _, _, ticket in (sorted(entries) if len(groups) > 1 else entries))

    def fronts(self) -> Iterator[Ticket]:
        """A copy of the first tickets of all groups, in order."""
        return (ticket for _, _, ticket in self._fronts.copy())

    def group(self, ticket: Ticket) -> Iterator[Ticket]:
        """A copy of the tickets in the group of ``ticket``, in order."""
        return (each for _, _, each in self._groups.get(ticket.group, []).copy())

    def by(self, user: User) -> Iterator[Ticket]:
        """The tickets of one user, in any order."""
        return iter(self._by_user.get(user, {}).values())

    def add(self, ticket: Ticket) -> None:
        self._by_user.setdefault(ticket.owner.who, {})[ticket.number] = ticket
        entry = (ticket.rank, ticket.number, ticket)
        insort(self._order, entry)
        group = self._groups.setdefault(ticket.group, [])
        if not group:
            self._kinds.setdefault(ticket.ask.kind, {})[ticket.group] = None
        elif entry < group[0]:
            _take_out(self._fronts, group[0])
        insort(group, entry)
        if group[0] is entry:
            insort(self._fronts, entry)

    def remove(self, ticket: Ticket) -> None:
        entry = (ticket.rank, ticket.number, ticket)
        _take_out(self._order, entry)
        mine = self._by_user[ticket.owner.who]
        del mine[ticket.number]
        if not mine:
            del self._by_user[ticket.owner.who]
        group = self._groups[ticket.group]
        was_front = group[0][2] is ticket
        _take_out(group, entry)
        if was_front:
            _take_out(self._fronts, entry)
            if group:
                insort(self._fronts, group[0])
        if not group:
            del self._groups[ticket.group]
            kind = self._kinds[ticket.ask.kind]
            del kind[ticket.group]
            if not kind:
                del self._kinds[ticket.ask.kind]

    def position(self, ticket: Ticket) -> int:
        """The place of a ticket, from 1."""
        return bisect_left(self._order, (ticket.rank, ticket.number)) + 1

    def rank_anew(self, ranks: Iterable[tuple[Ticket, float]]) -> None:
        """Move tickets to new ranks: one by one if they are few, else all with one sort."""
        anew = list(ranks)
        if len(anew) * _FEW < len(self._order):
            for ticket, at in anew:
                self.remove(ticket)
                ticket.rank = at
                self.add(ticket)
            return
        moved = [(at, ticket.number, ticket) for ticket, at in anew]
        for ticket, at in anew:
            ticket.rank = at
        self._order = _moved(self._order, moved)
        groups: dict[Group, list[QueueEntry]] = {}
        for entry in moved:
            groups.setdefault(entry[2].group, []).append(entry)
        fronts = {self._groups[name][0][1] for name in groups}
        for name, entries in groups.items():
            self._groups[name] = _moved(self._groups[name], entries)
        self._fronts = _moved(self._fronts, [self._groups[name][0] for name in groups], fronts)

    def broken(self) -> Iterator[str]:
        """One sentence for each index that differs from one that is rebuilt from the tickets."""
        anew = Queue()
        for _, _, ticket in self._order:
            anew.add(ticket)
        for name in ("_order", "_groups", "_kinds", "_fronts", "_by_user"):
            if getattr(self, name) != getattr(anew, name):
                yield f"the queue's {name.strip('_')} are not those of the tickets in it"

    def some(self, start: int, count: int) -> list[Ticket]:
        """``count`` tickets from position ``start`` on, counted from 0."""
        return [ticket for _, _, ticket in self._order[start : start + count]]


def rank(ticket: Ticket, policy: Policy, late: float) -> float:
    """The rank of a ticket: the time of its request, earlier for a higher class, later for a user with more recent use.

    ``late``: seconds for the user's recent use; they do not count for a ticket for which instances have ended. Example:
    asked at 100 s, class 1, ``aging`` 60 s, 20 s late: 100 - 60 + 20 = 60 s. A parked lease stands before all others.
    What a request waited elsewhere counts for up to ``waited_elsewhere`` seconds.
    """
    if ticket.parked:
        return -inf
    late, since = 0.0 if ticket.promised else late, ticket.asked_at
    if ticket.first_asked_at is not None:
        since = min(since, max(ticket.first_asked_at, since - policy.waited_elsewhere))
    if ticket.queued_at is not None:
        since = max(since, ticket.queued_at)
    return since - ticket.ask.priority * policy.aging + late


def _moved(entries: list[QueueEntry], moved: list[QueueEntry], left: Collection[int] | None = None) -> list[QueueEntry]:
    """``entries`` in order, with ``moved`` in place of those with the same numbers, or the numbers ``left``."""
    numbers = {number for _, number, _ in moved} if left is None else left
    return sorted([entry for entry in entries if entry[1] not in numbers] + moved)


def _take_out(entries: list[QueueEntry], entry: QueueEntry) -> None:
    place = bisect_left(entries, (entry[0], entry[1]))
    assert entries[place][2] is entry[2], "a ticket was ranked anew behind the queue's back"
    del entries[place]
