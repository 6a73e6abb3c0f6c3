"""Arrivals: the times of requests that wait, kept on disk by idempotency key: a repeated request keeps its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, GrantLease, RefuseLease
from lmxd.core.events import Event, LeaseRequested
from lmxd.core.words import Owner, RequestKey, TicketId
from lmxd.store.rows import ArrivalRow, Change, Gone


class Arrivals:
    """The requests that wait, by uid and key. A key keeps the place of one request, and only for that same request."""

    def __init__(self) -> None:
        self._waiting: dict[RequestKey, tuple[TicketId, ArrivalRow]] = {}
        self._keys: dict[TicketId, RequestKey] = {}
        self._missing: dict[str, ArrivalRow] = {}
        """The requests that waited when an earlier daemon ended, and have not come back."""

    def restore(self, rows: Iterable[ArrivalRow]) -> None:
        self._missing = {row.id: row for row in rows}

    def give_up(self) -> list[Change]:
        """Forget those that have not come back by now."""
        missing, self._missing = self._missing, {}
        back = {row.id for _, row in self._waiting.values()}
        return [Gone(ArrivalRow, id) for id in missing if id not in back]

    def came_first(self, owner: Owner, key: str, digest: str) -> float | None:
        """The time of the request that this one repeats, if that waits, or waited at an earlier daemon."""
        name = row_id(owner, key, digest)
        waits = self._waiting.get((owner.uid, key))
        if waits is not None:
            return waits[1].asked_at if waits[1].id == name else None
        return self._missing[name].asked_at if name in self._missing else None

    def changes(self, state: State, event: Event, decisions: Sequence[Decision]) -> list[Change]:
        """Rows for requests that wait since an event, and for those that do no more."""
        found: list[Change] = []
        if isinstance(event, LeaseRequested) and event.key is not None:
            found += self._asked(state, event, event.key)
        for decision in decisions:
            if isinstance(decision, (GrantLease, RefuseLease)) and (key := self._keys.pop(decision.ticket, None)):
                found += self._answered(decision.ticket, key)
        return found

    def rows(self) -> list[ArrivalRow]:
        return [*self._missing.values(), *(row for _, row in self._waiting.values())]

    def _asked(self, state: State, event: LeaseRequested, key: str) -> list[Change]:
        name, who = row_id(event.owner, key, event.digest or ""), (event.owner.uid, key)
        ticket = state.ticket(event.ticket)
        back = self._missing.pop(name, None)
        if ticket is None:
            return [] if back is None else [Gone(ArrivalRow, name)]
        row, before = ArrivalRow(id=name, asked_at=ticket.asked_at), self._waiting.get(who)
        self._keys[ticket.id] = who
        self._waiting[who] = ticket.id, row
        other = [] if before is None or before[1].id == name else [Gone(ArrivalRow, before[1].id)]
        return [*other, row]

    def _answered(self, ticket: TicketId, key: RequestKey) -> list[Change]:
        """Drop the row, unless the same was asked once more meanwhile: then that has the place."""
        waits = self._waiting.get(key)
        if waits is None or waits[0] != ticket:
            return []
        del self._waiting[key]
        return [Gone(ArrivalRow, waits[1].id)]


def row_id(owner: Owner, key: str, digest: str) -> str:
    """The id of a request's row: equal for the same request."""
    return f"{owner.uid} {digest} {key}"
