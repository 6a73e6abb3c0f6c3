"""Calls about leases and holds: they become events, and wait for the core's answer."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from lmxd.core import events as e
from lmxd.core.instances import Lease
from lmxd.core.words import Ask, Hold, Option
from lmxd.daemon import audit, owners
from lmxd.daemon.access import owner_of
from lmxd.daemon.answers import Waiting
from lmxd.daemon.catalog import Size
from lmxd.daemon.rules import max_priority
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc import holds as h
from lmxd.rpc import messages as m
from lmxd.rpc.server import Connection

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon

DEFAULT_TTL = 60.0


class Requests:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._answers = daemon.answers

    async def request(self, connection: Connection, id: framing.Id, params: m.RequestParams) -> m.Granted:
        with audit.refusals(connection.peer, params.model):
            if params.user is not None:
                self._daemon.access.require_proxy(connection.peer, params.user)
            self._require_ledger()
            size = self.size(connection, params)
            ask = await self._daemon.asks.prepare(params.model, size)
        granted = await self._wait(connection, id, params, ask, size, params.deadline, params.user)
        assert isinstance(granted, m.Granted)
        asyncio.get_running_loop().call_soon(hit, "grant_answered")
        return granted

    def size(self, connection: Connection, wish: m.Wish) -> Size:
        """What is asked for, if its class may be asked for."""
        if wish.priority is not None:
            own = self._daemon.catalog.profile(wish.model).priority
            most = max(own, max_priority(self._daemon.catalog.config, connection.peer.uid))
            if wish.priority > most and not self._daemon.access.is_admin(connection.peer):
                raise LmxdError(
                    "not_permitted",
                    f"priority is {wish.priority}, but uid {connection.peer.uid} may ask for {most} at most",
                    "ask for that, or have users: raised",
                )
        return Size(
            ctx=wish.ctx,
            slots=wish.slots,
            priority=wish.priority,
            share=not wish.exclusive,
            cpu_spill=wish.cpu_spill,
            max_instances=wish.max_instances if isinstance(wish, m.RequestParams) else None,
        )

    async def hold(self, connection: Connection, id: framing.Id, params: h.HoldParams) -> h.Held:
        with audit.refusals(connection.peer, params.name):
            self._require_ledger()
            await self._daemon.measure()
            wanted = None if params.device is None else owners.find(self._daemon.present.measured, params.device).id
        devices = [x.id for x in self._daemon.present.measured if wanted in (None, x.id)]
        ask = Ask(
            profile=params.name,
            variant="hold",
            context=0,
            slots=1,
            spread=1,
            options=tuple(Option(demand={device: params.bytes}) for device in devices),
            share=False,
            external=True,
        )
        held = await self._wait(connection, id, params, ask, None, None, None)
        assert isinstance(held, h.Held)
        if params.pid is not None:
            self.adopt(connection, h.AdoptParams(lease=held.lease, pid=params.pid))
        return held

    def adopt(self, connection: Connection, params: h.AdoptParams) -> h.Adopted:
        found = self.lease(connection, params.lease)
        if not self._daemon.admission.state.instances[found.instance].ask.external:
            raise LmxdError("invalid_params", f"lease {params.lease} is not a hold", "only a hold adopts a process")
        self._daemon.performer.holds.adopt(found.instance, found.id, params.pid, connection.peer.uid)
        return h.Adopted(lease=params.lease, pid=params.pid)

    async def _wait(
        self,
        connection: Connection,
        id: framing.Id,
        terms: m.Terms,
        ask: Ask,
        size: Size | None,
        deadline: float | None,
        user: str | None,
    ) -> m.Granted | h.Held:
        """Hand it to the core, and wait for the answer."""
        peer, key = connection.peer, terms.idempotency_key
        if key is not None and (had := self._daemon.admission.state.keys.get((peer.uid, key))):
            self._renew(connection, had, None)
            return self._answers.granted(had, waited=0.0)
        hit("request_received")
        hold = Hold(terms.hold)
        if terms.ttl is not None and hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"ttl is {terms.ttl:g}, but hold is {hold}", "set hold to ttl")
        ticket, lease = f"t-{secrets.token_hex(4)}", f"l-{secrets.token_hex(4)}"
        ttl = (terms.ttl or DEFAULT_TTL) if hold is Hold.TTL else None
        answer = asyncio.get_running_loop().create_future()
        waiting = Waiting(connection=connection, request=id, size=size, ask=ask, answer=answer)
        before = None if key is None else self._daemon.arrivals.waiting(peer.uid, key)
        self._answers.waiting[ticket] = waiting
        self._daemon.handle(
            e.LeaseRequested(
                at=time.monotonic(),
                ticket=ticket,
                lease=lease,
                owner=owner_of(peer, connection.id, user),
                ask=ask,
                hold=hold,
                ttl=ttl,
                wait=terms.wait,
                deadline=deadline,
                key=key,
                asked_at=None if key is None else self._daemon.arrivals.came_first(peer.uid, key),
            )
        )
        if before is not None:  # its client asks once more: one lease is meant, and this is who waits for it now
            self._daemon.handle(e.TicketCancelled(at=time.monotonic(), ticket=before))
        hit("request_recorded")
        try:
            with connection.queued():
                return await waiting.answer
        except asyncio.CancelledError:
            if connection.open:  # the client is there, but wants it no longer; else all of its connection ends
                self._withdrawn(ticket, lease)
            raise
        except LmxdError:
            raise
        except Exception:  # its client hears of a fault of ours, and so has no lease
            self._withdrawn(ticket, lease)
            raise

    def _withdrawn(self, ticket: str, lease: str) -> None:
        """It may have been granted already, though its client was not told."""
        self._daemon.handle(e.TicketCancelled(at=time.monotonic(), ticket=ticket))
        self._daemon.handle(e.LeaseReleased(at=time.monotonic(), lease=lease))

    def _require_ledger(self) -> None:
        """Whoever asks now would wait for a disk, not for room."""
        if why := self._daemon.health.unwritable:
            remedy = f"make room in {self._daemon.where.state}, or mend the disk"
            raise LmxdError("ledger_unwritable", f"the ledger cannot be written: {why}", remedy)

    def lease(self, connection: Connection, lease: str) -> Lease:
        """A lease that the caller may do something about."""
        found = self._daemon.admission.state.lease(lease)
        if found is None:
            if lease in self._answers.ended:
                why = self._answers.ended[lease]
                raise LmxdError("lease_ended", f"lease {lease} has ended: {why}", "make a new request", {"reason": why})
            raise LmxdError("unknown_lease", f"there is no lease {lease}", "lmxctl ps lists them")
        self._daemon.access.require_owner(connection.peer, {found.owner.uid}, f"lease {lease}")
        return found

    def release(self, connection: Connection, lease: str) -> m.Released:
        self.lease(connection, lease)
        self._daemon.handle(e.LeaseReleased(at=time.monotonic(), lease=lease))
        hit("released")
        return m.Released(lease=lease)

    def renew(self, connection: Connection, params: m.RenewParams) -> m.Renewed:
        found = self.lease(connection, params.lease)
        if params.ttl is not None and found.hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"lease {params.lease} is held by {found.hold}", "leave ttl out")
        self._renew(connection, found, params.ttl)
        expires_in = None if found.expires_at is None else found.expires_at - self._daemon.admission.state.now
        return m.Renewed(lease=params.lease, expires_in=expires_in)

    def _renew(self, connection: Connection, lease: Lease, ttl: float | None) -> None:
        """Whoever lost the connection that held a lease, and is back, holds it by this one."""
        lost = lease.owner.connection not in self._daemon.listener.connections
        back = connection.id if lost and lease.owner.pid == connection.peer.pid else None
        self._daemon.handle(e.LeaseRenewed(at=time.monotonic(), lease=lease.id, ttl=ttl, connection=back))
        hit("renewed")

    async def cancel(self, connection: Connection, params: m.CancelParams) -> m.Cancelled:
        if params.ticket is not None:
            return self._cancel(connection, params.ticket)
        if withdrawn := connection.withdraw(params.request):
            await asyncio.wait(withdrawn)
            return m.Cancelled(request=params.request)
        raise LmxdError("unknown_ticket", f"no call {params.request} waits here", "it has been answered")

    def _cancel(self, connection: Connection, ticket: str) -> m.Cancelled:
        found = self._daemon.admission.state.ticket(ticket)
        if found is None:
            raise LmxdError("unknown_ticket", f"there is no request {ticket} waiting", "lmxctl queue lists them")
        self._daemon.access.require_owner(connection.peer, {found.owner.uid}, f"request {ticket}")
        self._daemon.handle(e.TicketCancelled(at=time.monotonic(), ticket=ticket))
        return m.Cancelled(ticket=ticket)
