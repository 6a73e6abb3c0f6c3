"""Leases and requests for them: calls become events, and wait for the core's answer."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence

from lmxd.core.books.state import State
from lmxd.core.events import Event, LeaseReleased, LeaseRenewed, LeaseRequested, TicketCancelled
from lmxd.core.holders import Lease
from lmxd.core.words import Ask, ConnectionId, Elsewhere, Hold, InstanceId, LeaseId, TicketId
from lmxd.daemon.answering import repeats
from lmxd.daemon.answering.access import Access, owner_of
from lmxd.daemon.answering.answers import Answers, Waiting
from lmxd.daemon.answering.transit import InstanceGone
from lmxd.daemon.keeping.arrivals import Arrivals
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc.holds import Held
from lmxd.rpc.messages import Cancelled, CancelParams, Granted, Released, Renewed, RenewParams, Terms
from lmxd.rpc.server import Connection

DEFAULT_TTL = 60.0
"""Seconds that a lease held by its TTL lasts, unless its client says otherwise: two missed renewals of 30 s."""
_TRIES = 4
"""The most attempts at one request, if each time its instance ends at the moment of the grant."""


class Leasing:
    """Answers the calls ``request``, ``release``, ``renew`` and ``cancel``, and waits for leases of holds."""

    def __init__(
        self,
        state: State,
        answers: Answers,
        arrivals: Arrivals,
        access: Access,
        report: Callable[[Event], None],
    ) -> None:
        self._state = state
        self._answers = answers
        self._arrivals = arrivals
        self._access = access
        self._report = report

    def reuses(self, connection: Connection) -> None:
        """Note that who is connected may use a lease for several requests, as long as nobody waits."""
        self._answers.reusing.add(connection.id)

    async def wait(
        self,
        connection: Connection,
        id: framing.Id,
        terms: Terms,
        ask: Ask,
        again: Callable[[], Ask],
        *,
        deadline: float | None = None,
        user: str | None = None,
        waited: float = 0.0,
        elsewhere: Elsewhere | None = None,
        near: str | None = None,
        apart: Sequence[str] = (),
    ) -> Granted | Held:
        """Send a request to the core, and wait for the answer. ``again`` makes its ask for the devices of another time.

        If the instance ends at the moment of the grant, the request is sent again, with its first time. Each attempt
        may wait for all of ``terms.wait``, since loading does not count; the deadline is that of the first.
        """
        peer, key, first = connection.peer, terms.idempotency_key, time.monotonic()
        digest = repeats.digest(terms)
        hold, owner = Hold(terms.hold), owner_of(peer, ConnectionId(connection.id), user)
        if terms.ttl is not None and hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"ttl is {terms.ttl:g}, but hold is {hold}", "set hold to ttl")
        before = None
        for _ in range(_TRIES):
            try:
                if had := repeats.granted_before(self._state, peer.uid, terms, digest, external=ask.external):
                    self._renew(connection, had, None)
                    await self._answers.transit.over(had, terms.wait)
                    return self._answers.granted(had, waited=0.0)
                if key is not None and before is None:
                    before = self._arrivals.came_first(owner, key, digest)
                hit("request_received")
                now = time.monotonic()
                asked = LeaseRequested(
                    at=now,
                    ticket=TicketId(f"t-{secrets.token_hex(4)}"),
                    lease=LeaseId(f"l-{secrets.token_hex(4)}"),
                    owner=owner,
                    ask=ask,
                    hold=hold,
                    ttl=(terms.ttl or DEFAULT_TTL) if hold is Hold.TTL else None,
                    wait=terms.wait,
                    deadline=None if deadline is None else deadline - (now - first),
                    key=key,
                    asked_at=before,
                    waited=waited and waited + now - first,
                    elsewhere=elsewhere,
                    digest=None if key is None else digest,
                    near=None if near is None else InstanceId(near),
                    apart=frozenset(map(InstanceId, apart)),
                )
                return await self._answer(connection, id, again, asked)
            except InstanceGone as error:
                gone, before = error, before or first
        raise gone

    async def _answer(
        self, connection: Connection, id: framing.Id, again: Callable[[], Ask], asked: LeaseRequested
    ) -> Granted | Held:
        """Wait for the answer to one request. InstanceGone if its instance ended before the client got the lease."""
        answer = asyncio.get_running_loop().create_future()
        waiting = Waiting(connection=connection, request=id, ask=asked.ask, again=again, answer=answer)
        self._answers.waiting[asked.ticket] = waiting
        self._report(asked)
        hit("request_recorded")
        try:
            with connection.queued():
                return await waiting.answer
        except asyncio.CancelledError:
            if connection.open:  # the client cancelled; if it left, ``ClientLeft`` ends all
                self._withdrawn(asked)
            raise
        except LmxdError:
            raise
        except Exception:  # the client gets an internal error, and so no lease
            self._withdrawn(asked)
            raise

    def _withdrawn(self, asked: LeaseRequested) -> None:
        """Cancel a request, and release its lease, which may have been granted already."""
        self._report(TicketCancelled(at=time.monotonic(), ticket=asked.ticket))
        self._report(LeaseReleased(at=time.monotonic(), lease=asked.lease))

    def lease(self, connection: Connection, lease: str) -> Lease:
        """The lease of that id, if the caller may release or renew it. LmxdError if not."""
        found = self._state.lease(LeaseId(lease))
        if found is None:
            if why := self._answers.ended.get(lease):
                raise LmxdError("lease_ended", f"lease {lease} has ended: {why}", "make a new request", {"reason": why})
            raise LmxdError("unknown_lease", f"there is no lease {lease}", "lmxctl ps lists them")
        self._access.require_owner(connection.peer, {found.owner.uid}, f"lease {lease}")
        return found

    def release(self, connection: Connection, lease: str) -> Released:
        found = self.lease(connection, lease)
        self._report(LeaseReleased(at=time.monotonic(), lease=found.id))
        hit("released")
        return Released(lease=lease)

    def renew(self, connection: Connection, params: RenewParams) -> Renewed:
        found = self.lease(connection, params.lease)
        if params.ttl is not None and found.hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"lease {params.lease} is held by {found.hold}", "leave ttl out")
        self._renew(connection, found, params.ttl)
        expires_in = None if found.expires_at is None else found.expires_at - self._state.now
        moved = None
        known = params.instance in (None, found.instance) or found.parked is not None
        if not known and found.owner.uid == connection.peer.uid:
            moved = self._answers.granted(found, waited=0.0)
            assert isinstance(moved, Granted)
        return Renewed(lease=params.lease, expires_in=expires_in, moved=moved)

    def _renew(self, connection: Connection, lease: Lease, ttl: float | None) -> None:
        """Renew a lease. If its connection was lost, and the caller is the same process, this one holds it now."""
        lost = lease.owner.connection not in self._answers.connections()
        back = ConnectionId(connection.id) if lost and lease.owner.pid == connection.peer.pid else None
        self._report(LeaseRenewed(at=time.monotonic(), lease=lease.id, ttl=ttl, connection=back))
        hit("renewed")

    async def cancel(self, connection: Connection, params: CancelParams) -> Cancelled:
        if params.ticket is not None:
            return self._cancel(connection, params.ticket)
        if withdrawn := connection.withdraw(params.request):
            await asyncio.wait(withdrawn)
            return Cancelled(request=params.request)
        raise LmxdError("unknown_ticket", f"no call {params.request} waits here", "it has been answered")

    def _cancel(self, connection: Connection, ticket: str) -> Cancelled:
        found = self._state.ticket(TicketId(ticket))
        if found is None:
            raise LmxdError("unknown_ticket", f"there is no request {ticket} waiting", "lmxctl queue lists them")
        self._access.require_owner(connection.peer, {found.owner.uid}, f"request {ticket}")
        self._report(TicketCancelled(at=time.monotonic(), ticket=found.id))
        return Cancelled(ticket=ticket)
