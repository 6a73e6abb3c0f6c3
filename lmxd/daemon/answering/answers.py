"""Decisions become answers: each waiting call gets one answer, and other clients get notifications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lmxd.core.answers import Refusal
from lmxd.core.books.state import State
from lmxd.core.decisions import AskToYield, Decision, EndLease, GrantLease, MoveLease, RefuseLease, ReportProgress
from lmxd.core.holders import Lease
from lmxd.core.instances import Instance
from lmxd.core.reasons import EndReason, RefusalCode
from lmxd.core.words import Ask, ConnectionId, Demand, DeviceId, InstanceId, TicketId
from lmxd.daemon.answering import device_views, refused, views
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.beyond import ways_out
from lmxd.daemon.answering.remembered import Remembered
from lmxd.daemon.answering.replacements import Replacements
from lmxd.daemon.answering.transit import InstanceGone, Transit
from lmxd.daemon.answering.watchers import Watchers
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.present import Present
from lmxd.engines.engine import EngineKind
from lmxd.engines.visibility import natively
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc.holds import Held
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import LeaseEnded, Moved, SomebodyWaits, YieldAsked
from lmxd.rpc.server import Connection
from lmxd.store.rows import LeaseRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A request that has not been answered."""

    connection: Connection
    request: framing.Id
    ask: Ask
    again: Callable[[], Ask]
    """Makes the ask once more, for the devices and the configuration that there are by then. LmxdError."""
    answer: asyncio.Future[Granted | Held]
    grows: bool = False
    """It is a growth: what it lacks, it lacks beside the bytes that its lease has."""


class Answers:
    """The waiting calls and the watchers, to whom it sends answers and notifications."""

    def __init__(
        self,
        state: State,
        access: Access,
        present: Present,
        performer: Performer,
        connections: Callable[[], Mapping[int, Connection]],
    ) -> None:
        self._state = state
        self._access = access
        self._present = present
        self._performer = performer
        self.connections = connections
        self.waiting: dict[TicketId, Waiting] = {}
        self.transit = Transit(state)
        self._queued: set[TicketId] = set()
        """The waiting requests that were told of a place in the queue; some may have left since."""
        self.reusing: set[int] = set()
        """Connections whose holders may use a lease for several requests, as long as nobody waits."""
        self.watchers = Watchers(state, access)
        self.ended: Remembered[EndReason] = Remembered(state.lives)
        """The reasons why the last leases of each user ended."""
        self._loaded: dict[InstanceId, int] = {}
        """Per cent of the bytes that each starting instance had loaded when it was last reported."""
        self.users: Remembered[set[int]] = Remembered(state.lives)
        """The uids that the last instances of each user served. Holds have no log, so that they are not noted."""
        self._replacements = Replacements(state, self.users, self.reusing, connections)

    def restore(self, leases: Iterable[LeaseRow]) -> None:
        """Let holders of an earlier daemon's leases see the logs of their instances."""
        for row in leases:
            self._used_by(row.instance, row.uid)

    def _used_by(self, instance: str, uid: int) -> None:
        known = self.users.get(instance) or set()
        if uid not in known:
            self.users.put(instance, uid, known | {uid})

    def forget(self, connection: Connection) -> None:
        """A client has left."""
        self.reusing.discard(connection.id)
        self._performer.shelf.left(ConnectionId(connection.id))
        self.watchers.forget(connection)

    def decided(self, decision: Decision) -> None:
        """Note a decision as soon as it is made, before it is written and answered."""
        self.transit.decided(decision)
        if isinstance(decision, EndLease):
            self.ended.put(decision.lease, decision.owner.uid, decision.reason)

    def tell(self, decision: Decision) -> None:
        """Answer and notify the clients that a decision concerns."""
        self.transit.tell(decision)
        self._replacements.tell(decision)
        match decision:
            case GrantLease():
                self._granted(decision)
            case MoveLease():
                self._moved(decision)
            case RefuseLease():
                self._refused(decision)
            case ReportProgress():
                if waiting := self.waiting.get(decision.ticket):
                    waiting.connection.notify(views.progress(decision, waiting.request))
                    self._place_told(decision)
            case EndLease():
                self._lease_ended(decision)
            case AskToYield():
                self._asked_to_yield(decision)
        self.watchers.tell(decision)

    def _place_told(self, decision: ReportProgress) -> None:
        """Have leases be used for one request each, from the moment at which somebody waits in the queue."""
        if not decision.position:
            self._queued.discard(decision.ticket)
            return
        if not self._is_wanted():
            connections = self.connections()
            for number in self.reusing & connections.keys():
                connections[number].notify(SomebodyWaits())
        self._queued.add(decision.ticket)

    def _is_wanted(self) -> bool:
        """Whether somebody waits in the queue."""
        self._queued &= self.waiting.keys()
        return bool(self._queued)

    def _asked_to_yield(self, decision: AskToYield) -> None:
        if connection := self.connections().get(decision.owner.connection):
            why = self.watchers.redacted(decision.why, connection.peer)
            asked = YieldAsked(lease=decision.lease, instance=decision.instance, within=decision.within, why=why)
            connection.notify(asked)

    def tell_loading(self) -> None:
        """Notify the clients of starting instances, if a further per cent has been loaded."""
        state = self._state
        for instance in state.instances.values():
            part = views.loaded(state, instance)
            if part is None or int(part * 100) == self._loaded.get(instance.id):
                continue
            self._loaded[instance.id] = int(part * 100)
            for ticket in instance.tickets.values():
                if waiting := self.waiting.get(ticket.id):
                    waiting.connection.notify(views.loading(state, ticket, waiting.request, part))
        self._loaded = {name: part for name, part in self._loaded.items() if name in state.instances}

    def _granted(self, decision: GrantLease) -> None:
        waiting = self.waiting.pop(decision.ticket, None)
        instance = self._state.instances.get(decision.instance)
        if instance is None or not instance.ask.external:
            self._used_by(decision.instance, decision.owner.uid)
        if waiting is None or waiting.answer.done():
            return
        lease = self._state.leases.get(decision.lease)
        try:
            if lease is None:
                raise InstanceGone
            hit("before_grant")
            waiting.answer.set_result(self.granted(lease, decision.waited))
        except Exception as error:  # every error becomes the answer: a call never hangs
            waiting.answer.set_exception(error)

    def _moved(self, decision: MoveLease) -> None:
        """Answer a growth, and tell the holder of the lease if that was not asked by it, or waits no longer."""
        waiting = self.waiting.pop(decision.ticket, None)
        self._used_by(decision.instance, decision.owner.uid)
        lease = self._state.leases.get(decision.lease)
        answered = waiting is not None and not waiting.answer.done()
        try:
            if lease is None:
                raise InstanceGone
            granted = self.granted(lease, decision.waited, decision.slot)
        except Exception as error:  # every error becomes the answer, as above
            if waiting is not None and answered:
                waiting.answer.set_exception(error)
            return
        if waiting is not None and answered:
            waiting.answer.set_result(granted)
        holder = self.connections().get(lease.owner.connection)
        told = waiting is not None and answered and waiting.connection is holder
        if holder is not None and not told and decision.instance != decision.before:
            assert isinstance(granted, Granted)
            holder.notify(Moved(lease=lease.id, granted=granted, before=decision.before, why=decision.move.value))

    def granted(self, lease: Lease, waited: float, slot: int | None = None) -> Granted | Held:
        """The answer to a granted request. InstanceGone if its instance has ended, also for a move of its lease.

        ``slot``: the one in which the conversation lies, of a lease that has moved with it.
        """
        if lease.parked is not None:
            raise InstanceGone
        instance = self._state.instances[lease.instance]
        devices = device_views.charged(self._state, instance)
        if instance.ask.external:
            return self._held(lease, devices, waited)
        launched = self._performer.launched(instance.id)
        if launched is None or launched.endpoint is None:
            raise InstanceGone
        endpoint, most = launched.endpoint, self._present.most_context(instance.ask)
        return Granted(
            lease=lease.id,
            instance=instance.id,
            model=instance.ask.profile,
            endpoint=endpoint.url,
            base_url=f"{endpoint.url}/v1",
            api_key=endpoint.key,
            socket=str(endpoint.socket) if endpoint.socket else None,
            upstream_name=launched.plan.upstream_name,
            ctx=instance.ask.tokens(lease.slots) if most is None else min(instance.ask.tokens(lease.slots), most),
            ctx_most=most,
            slot=slot,
            carried=list(self.transit.carried.get(lease.id, ())),
            slots=lease.slots,
            instance_slots=instance.ask.spread,
            alone=launched.plan.kind is EngineKind.LLAMA_CPP and is_alone(lease, instance),
            devices=devices,
            called=self._called(devices),
            basis=self._present.catalog.basis(instance.ask.profile),
            hold=lease.hold.value,
            ttl=lease.ttl,
            waited=waited,
            wanted=self._is_wanted(),
        )

    def _held(self, lease: Lease, devices: dict[DeviceId, int], waited: float) -> Held:
        shown = natively(self._present.catalog.default.usable.cards(devices), numbered=False) or {}
        return Held(
            lease=lease.id,
            instance=lease.instance,
            devices=devices,
            called=self._called(devices),
            cuda_visible_devices=shown.get("CUDA_VISIBLE_DEVICES", ""),
            environment=shown,
            hold=lease.hold.value,
            ttl=lease.ttl,
            waited=waited,
        )

    def _called(self, devices: Iterable[DeviceId]) -> dict[str, str]:
        called = self._state.ledger.called
        return {device: called[device] for device in devices if device in called}

    def _refused(self, decision: RefuseLease) -> None:
        waiting = self.waiting.pop(decision.ticket, None)
        if waiting is None or waiting.answer.done():
            return
        try:
            waiting.answer.set_exception(self._error(decision.ask, decision.refusal, grows=waiting.grows))
        except Exception:  # the answer then lacks figures
            log.exception("%s could not be put into words", decision)
            refusal = decision.refusal
            waiting.answer.set_exception(LmxdError(refusal.code, refusal.message, refusal.remedy))

    def _error(self, ask: Ask, refusal: Refusal, *, grows: bool) -> LmxdError:
        message, remedy = refused.message(refusal), refusal.remedy
        data = {"model": ask.profile, **views.refusal(refusal)}
        if refusal.code is RefusalCode.NEVER_FITS and not grows:
            room = {device: a.ceiling for device, a in self._state.ledger.accounts.items()}
            demand = self._beyond(ask, room)
            message = refused.never_more(ask.profile, demand, room, self._state.ledger.called)
            ways = ways_out(ask, self._state, self._present)
            data["fits"] = None if ways.context is None else {"ctx": ways.context}
            data["would_help"] = list(ways.settings)
            remedy = ways.remedy
        return LmxdError(refusal.code, message, remedy, data)

    @staticmethod
    def _beyond(ask: Ask, room: Mapping[DeviceId, int]) -> Demand:
        """The bytes of the first option that a device, or else the pool that it draws from, could never give."""
        option = ask.options[0]
        beyond = {device: need for device, need in option.demand.items() if need > room.get(device, 0)}
        return beyond or option.devices

    def _lease_ended(self, decision: EndLease) -> None:
        connection = self.connections().get(decision.owner.connection)
        if connection and decision.reason is not EndReason.RELEASED:
            detail = self.watchers.redacted(decision.detail, connection.peer)
            ended = LeaseEnded(lease=decision.lease, instance=decision.instance, reason=decision.reason, detail=detail)
            connection.notify(ended)


def is_alone(lease: Lease, instance: Instance) -> bool:
    """Whether all leases of its instance are of one client, which then knows the slots that are in use."""
    return all(other.owner.connection == lease.owner.connection for other in instance.leases.values())
