"""Arrival times of waiting requests: a place in the queue outlives the daemon, by its client's idempotency key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, GrantLease, RefuseLease
from lmxd.core.events import Event, LeaseRequested
from lmxd.core.words import TicketId
from lmxd.store.rows import ArrivalRow, Change, Gone


class Arrivals:
    """The arrival times of waiting requests, by user and key.

    A key stands for its place once: a client that uses it for further requests gains nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[TicketId, ArrivalRow]] = {}
        self._names: dict[TicketId, str] = {}
        self._missing: dict[str, ArrivalRow] = {}
        """Requests that waited when an earlier daemon ended, and have not come back."""

    def restore(self, rows: Iterable[ArrivalRow]) -> None:
        self._missing = {row.id: row for row in rows}

    def give_up(self) -> list[Change]:
        """Give up the places of clients that have not come back by now."""
        missing, self._missing = self._missing, {}
        return [Gone(ArrivalRow, id) for id in missing if id not in self._waiting]

    def came_first(self, uid: int, key: str) -> float | None:
        """The time of the request that this one repeats, if that waits, or was waiting at an earlier daemon."""
        name = _name(uid, key)
        if name in self._waiting:
            return self._waiting[name][1].asked_at
        return self._missing[name].asked_at if name in self._missing else None

    def waiting(self, uid: int, key: str) -> TicketId | None:
        """The request that this one repeats, if it waits."""
        found = self._waiting.get(_name(uid, key))
        return None if found is None else found[0]

    def changes(self, state: State, event: Event, decisions: Sequence[Decision]) -> list[Change]:
        """Rows for who waits since an event, and for who does no more."""
        found: list[Change] = []
        if isinstance(event, LeaseRequested) and event.key is not None:
            found += self._asked(state, event, _name(event.owner.uid, event.key))
        for decision in decisions:
            if isinstance(decision, (GrantLease, RefuseLease)) and (name := self._names.pop(decision.ticket, None)):
                found += self._answered(decision.ticket, name)
        return found

    def rows(self) -> list[ArrivalRow]:
        return [*self._missing.values(), *(row for _, row in self._waiting.values())]

    def _asked(self, state: State, event: LeaseRequested, name: str) -> list[Change]:
        ticket = state.ticket(event.ticket)
        back = self._missing.pop(name, None)
        if ticket is None:
            return [] if back is None else [Gone(ArrivalRow, name)]
        row = ArrivalRow(id=name, asked_at=ticket.asked_at)
        self._names[ticket.id] = name
        self._waiting[name] = ticket.id, row
        return [row]

    def _answered(self, ticket: TicketId, name: str) -> list[Change]:
        """Unless the same was asked once more meanwhile: then that has the place."""
        waits = self._waiting.get(name)
        if waits is None or waits[0] != ticket:
            return []
        del self._waiting[name]
        return [Gone(ArrivalRow, name)]


def _name(uid: int, key: str) -> str:
    return f"{uid} {key}"
