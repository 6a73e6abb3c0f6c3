"""The RPC methods: calls become events, decisions become answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel

from lmxd import __version__
from lmxd.core import events as e
from lmxd.core.invariants import broken
from lmxd.core.state import Lease, State
from lmxd.core.words import Hold, Owner
from lmxd.daemon import access, owners, views
from lmxd.daemon.answers import Waiting
from lmxd.daemon.catalog import Size
from lmxd.daemon.views import explain
from lmxd.errors import LmxdError
from lmxd.instances.logs import tail
from lmxd.rpc import estimates as es
from lmxd.rpc import framing, methods
from lmxd.rpc import messages as m
from lmxd.rpc import owners as o
from lmxd.rpc.server import Connection

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon

DEFAULT_TTL = 60.0


class Service:
    """What clients can ask of the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._answers = daemon.answers
        self._started = time.monotonic()

    async def call(self, connection: Connection, id: framing.Id, method: str, params: m.Params) -> BaseModel:
        """One call. Raises LmxdError for a refusal."""
        match params:
            case m.RequestParams():
                return await self._request(connection, id, params)
            case m.RenewParams():
                return self._renew(connection, params)
            case m.LeaseParams():
                return self._release(connection, params.lease)
            case m.TicketParams():
                return self._cancel(connection, params.ticket)
            case es.EstimateParams():
                return await self._estimate(params)
            case es.ForgetParams():
                return self._forget(connection, params)
            case o.WhyParams():
                return await self._why(params.device)
            case m.LogsParams():
                return self._logs(connection, params)
            case m.InstanceParams():
                return self._stop(connection, params.instance)
            case m.HelloParams():
                return self._hello(params)
        match method:
            case "describe":
                return methods.describe()
            case "status":
                return await self._status()
            case "devices":
                return m.Devices(devices=await self._devices())
            case "instances":
                return m.Instances(instances=views.instances(self._state(), self._daemon.launches))
            case "queue":
                state = self._state()
                return m.Queue(depth=state.queue_depth, tickets=views.queue(state))
            case "models":
                return await self._models()
            case "estimates":
                return views.estimates(self._daemon.observations.learned, self._daemon.catalog)
            case "reload":
                access.require_admin(connection.peer, "reload the configuration")
                return m.Reloaded(path=str(self._daemon.config_path), warnings=await self._daemon.reload())
            case "watch":
                self._answers.watching[connection.id] = connection
                return m.Watching()
        raise AssertionError(f"{method} has no handler")

    def keeps(self, connection: Connection) -> bool:
        if connection.id in self._answers.watching:
            return True
        held = self._daemon.admission.state.leases()
        return any(x.hold is Hold.CONNECTION and x.owner.connection == connection.id for x in held)

    def left(self, connection: Connection) -> None:
        self._answers.watching.pop(connection.id, None)
        self._daemon.handle(e.ClientLeft(at=time.monotonic(), connection=connection.id))

    # what clients call

    async def _request(self, connection: Connection, id: framing.Id, params: m.RequestParams) -> m.Granted:
        hold = Hold(params.hold)
        if params.ttl is not None and hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"ttl is {params.ttl:g}, but hold is {hold}", "set hold to ttl")
        size = Size(ctx=params.ctx, slots=params.slots)
        await self._daemon.warm(params.model, size)
        ask = self._daemon.catalog.ask(params.model, size, self._daemon.device_kinds)
        self._daemon.engine.binary()  # if it is missing, say so before anything is reserved
        ticket, lease = f"t-{secrets.token_hex(4)}", f"l-{secrets.token_hex(4)}"
        ttl = (params.ttl or DEFAULT_TTL) if hold is Hold.TTL else None
        waiting = Waiting(
            connection=connection,
            request=id,
            size=size,
            ask=ask,
            hold=hold,
            ttl=ttl,
            answer=asyncio.get_running_loop().create_future(),
        )
        self._answers.waiting[ticket] = waiting
        self._daemon.handle(
            e.LeaseRequested(
                at=time.monotonic(),
                ticket=ticket,
                lease=lease,
                owner=Owner(uid=connection.peer.uid, pid=connection.peer.pid, connection=connection.id),
                ask=ask,
                hold=hold,
                ttl=ttl,
                wait=params.wait,
            )
        )
        return await waiting.answer

    def _lease(self, connection: Connection, lease: str) -> Lease:
        found = self._daemon.admission.state.lease(lease)
        if found is None:
            if lease in self._answers.ended:
                why = self._answers.ended[lease]
                raise LmxdError("lease_ended", f"lease {lease} has ended: {why}", "make a new request", {"reason": why})
            raise LmxdError("unknown_lease", f"there is no lease {lease}", "lmxctl ps lists them")
        access.require_owner(connection.peer, {found.owner.uid}, f"lease {lease}")
        return found

    def _release(self, connection: Connection, lease: str) -> m.Released:
        self._lease(connection, lease)
        self._daemon.handle(e.LeaseReleased(at=time.monotonic(), lease=lease))
        return m.Released(lease=lease)

    def _renew(self, connection: Connection, params: m.RenewParams) -> m.Renewed:
        found = self._lease(connection, params.lease)
        if params.ttl is not None and found.hold is not Hold.TTL:
            raise LmxdError("invalid_params", f"lease {params.lease} is held by {found.hold}", "leave ttl out")
        self._daemon.handle(e.LeaseRenewed(at=time.monotonic(), lease=params.lease, ttl=params.ttl))
        expires_in = None if found.expires_at is None else found.expires_at - self._state().now
        return m.Renewed(lease=params.lease, expires_in=expires_in)

    def _cancel(self, connection: Connection, ticket: str) -> m.Cancelled:
        found = self._state().ticket(ticket)
        if found is None:
            raise LmxdError("unknown_ticket", f"there is no request {ticket} waiting", "lmxctl queue lists them")
        access.require_owner(connection.peer, {found.owner.uid}, f"request {ticket}")
        self._daemon.handle(e.TicketCancelled(at=time.monotonic(), ticket=ticket))
        return m.Cancelled(ticket=ticket)

    def _stop(self, connection: Connection, instance: str) -> m.Stopped:
        access.require_admin(connection.peer, "stop an instance")
        if instance not in self._state().instances:
            raise LmxdError("unknown_instance", f"there is no instance {instance}", "lmxctl ps lists them")
        self._daemon.handle(e.StopRequested(at=time.monotonic(), instance=instance))
        return m.Stopped(instance=instance)

    def _logs(self, connection: Connection, params: m.LogsParams) -> m.Logs:
        path = self._daemon.launches.log_path(params.instance)
        known = params.instance in self._state().instances or params.instance in self._answers.users
        if not known and not (access.is_admin(connection.peer) and "/" not in params.instance and path.exists()):
            raise LmxdError("unknown_instance", f"there is no instance {params.instance}", "lmxctl ps lists them")
        access.require_owner(
            connection.peer, self._answers.users.get(params.instance, set()), f"the log of {params.instance}"
        )
        return m.Logs(instance=params.instance, lines=tail(path, params.lines))

    def _hello(self, params: m.HelloParams) -> m.Hello:
        if params.protocol.split(".")[0] != m.PROTOCOL.split(".")[0]:
            raise LmxdError(
                "invalid_params", f"protocol is {params.protocol!r}, but lmxd speaks {m.PROTOCOL}", "update the client"
            )
        return m.Hello(protocol=m.PROTOCOL, server=f"lmxd {__version__}", capabilities=sorted(methods.METHODS))

    async def _devices(self) -> list[m.Device]:
        await self._daemon.measure()
        return views.devices(self._state(), self._daemon.measured)

    async def _why(self, wanted: str) -> o.Why:
        await self._daemon.measure()
        found, launches = owners.find(self._daemon.measured, wanted), self._daemon.launches
        ours = {pid for pids in launches.pids().values() for pid in pids}
        foreign = await asyncio.to_thread(owners.foreign, found, ours)
        return owners.why(self._state(), launches, found, foreign)

    async def _status(self) -> m.Status:
        devices = await self._devices()
        state = self._state()
        return m.Status(
            version=__version__,
            uptime=time.monotonic() - self._started,
            engine=self._daemon.engine_name,
            admission=state.enforce,
            draining=state.draining,
            devices=devices,
            instances=len(state.instances),
            leases=sum(1 for _ in state.leases()),
            waiting=len(state.queue),
            queue_depth=state.queue_depth,
            broken_invariants=broken(state),
            warnings=self._daemon.warnings,
        )

    async def _models(self) -> m.Models:
        return m.Models(models=[await self._model(name) for name in sorted(self._daemon.catalog.config.models)])

    async def _model(self, name: str) -> m.Model:
        profile = self._daemon.catalog.profile(name)
        running = sum(1 for i in self._state().instances.values() if i.ask.profile == name)
        await self._daemon.warm(name)
        launch = self._daemon.catalog.launch(name)
        view = m.Model(model=name, ctx=launch.context, slots=profile.slots, bytes={}, running=running)
        try:
            options = self._daemon.catalog.options(name, launch, self._daemon.device_kinds)
            charge = {device: need for demand in options for device, need in demand.items()}
            path, basis = str(self._daemon.catalog.path(name)), self._daemon.catalog.basis(name)
            return view.model_copy(update={"bytes": charge, "basis": basis, "path": path})
        except LmxdError as error:
            return view.model_copy(update={"problem": str(error)})

    def _forget(self, connection: Connection, params: es.ForgetParams) -> es.Forgotten:
        access.require_admin(connection.peer, "forget what was learned")
        count = self._daemon.observations.forget(
            lambda o: params.model in (None, o.model) and params.card in (None, o.card.name)
        )
        self._daemon.learn()
        return es.Forgotten(count=count)

    async def _estimate(self, params: es.EstimateParams) -> es.Estimated:
        size = Size(
            ctx=params.ctx,
            slots=params.slots,
            cache_type_k=params.cache_type_k,
            cache_type_v=params.cache_type_v,
        )
        await self._daemon.warm(params.model, size)
        return explain(self._daemon.catalog, params.model, size, self._daemon.device_kinds)

    def _state(self) -> State:
        return self._daemon.admission.state
