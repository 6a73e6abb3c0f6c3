"""The RPC methods: calls become events, decisions become answers."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from lmxd import __version__
from lmxd.core import events as e
from lmxd.core.books.state import State
from lmxd.core.invariants import broken
from lmxd.core.words import Hold
from lmxd.daemon import explaining, owners, views
from lmxd.daemon.catalog import Size
from lmxd.daemon.requests import Requests
from lmxd.daemon.views import explain
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.instances.logs import tail
from lmxd.rpc import books as b
from lmxd.rpc import estimates as es
from lmxd.rpc import explanations as x
from lmxd.rpc import framing, methods
from lmxd.rpc import holds as h
from lmxd.rpc import messages as m
from lmxd.rpc import owners as o
from lmxd.rpc.peer import Peer
from lmxd.rpc.server import Connection

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon

_LASTING = frozenset(("release", "renew", "cancel", "adopt", "yield", "unyield", "stop", "pin", "drain"))
"""What is acknowledged only when it is written. Leases and holds are granted no sooner, either."""


class Service:
    """What clients can ask of the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._answers = daemon.answers
        self._requests = Requests(daemon)
        self._calls = self._table()
        self._started = time.monotonic()

    async def call(self, connection: Connection, id: framing.Id, method: str, params: m.Params) -> BaseModel:
        """One call. Raises LmxdError for a refusal."""
        if isinstance(params, (m.Wish, es.EstimateParams)):
            name = self._daemon.catalog.config.named(params.model)
            params = params if name == params.model else params.model_copy(update={"model": name})
        answer = self._calls[method](connection, id, params)
        found: BaseModel = await answer if inspect.isawaitable(answer) else answer
        if method in _LASTING:
            await self._daemon.outbox.settled()
        return found

    def _table(self) -> dict[str, Callable[[Connection, framing.Id, Any], Awaitable[BaseModel] | BaseModel]]:
        """Method -> who answers it: connection, id and parameters in, a message out."""
        daemon, requests = self._daemon, self._requests
        return {
            "hello": lambda c, i, p: self._hello(p),
            "describe": lambda c, i, p: methods.describe(),
            "request": requests.request,
            "release": lambda c, i, p: requests.release(c, p.lease),
            "renew": lambda c, i, p: requests.renew(c, p),
            "cancel": lambda c, i, p: requests.cancel(c, p),
            "hold": requests.hold,
            "adopt": lambda c, i, p: requests.adopt(c, p),
            "yield": lambda c, i, p: self._yield(c, p),
            "unyield": lambda c, i, p: self._unyield(c, p.id),
            "plan": lambda c, i, p: self._plan(c, p),
            "explain": lambda c, i, p: explaining.explain(daemon.journal, daemon.access, c.peer, p.id),
            "status": lambda c, i, p: self._status(),
            "devices": lambda c, i, p: self._all_devices(),
            "why": lambda c, i, p: self._why(p.device),
            "instances": lambda c, i, p: self._instances(c),
            "queue": lambda c, i, p: self._queue(c),
            "models": lambda c, i, p: self._models(),
            "estimate": lambda c, i, p: self._estimate(p),
            "estimates": lambda c, i, p: views.estimates(daemon.observations.learned, daemon.catalog),
            "forget": lambda c, i, p: self._forget(c, p),
            "logs": lambda c, i, p: self._logs(c, p),
            "stop": lambda c, i, p: self._stop(c, p.instance),
            "pin": lambda c, i, p: self._pin(c, p),
            "drain": lambda c, i, p: self._drain(c, p),
            "reload": lambda c, i, p: self._reload(c),
            "watch": lambda c, i, p: self._watch(c),
        }

    def admits(self, peer: Peer) -> bool:
        return self._daemon.access.admits(peer)

    def keeps(self, connection: Connection) -> bool:
        if connection.id in self._answers.watching:
            return True
        held = self._state().leases.values()
        return any(lease.hold is Hold.CONNECTION and lease.owner.connection == connection.id for lease in held)

    def left(self, connection: Connection) -> None:
        self._answers.watching.pop(connection.id, None)
        self._daemon.handle(e.ClientLeft(at=time.monotonic(), connection=connection.id))
        hit("client_left")

    def _stop(self, connection: Connection, instance: str) -> m.Stopped:
        self._require_instance(connection, instance, f"stop {instance}")
        self._daemon.handle(e.StopRequested(at=time.monotonic(), instance=instance))
        return m.Stopped(instance=instance)

    def _pin(self, connection: Connection, params: m.PinParams) -> m.Pinned:
        instance = params.instance
        self._require_instance(connection, instance, f"{'pin' if params.pin else 'unpin'} {instance}")
        if self._state().instances[instance].ask.external:
            raise LmxdError("invalid_params", f"{instance} is a hold", "it lasts as long as its lease")
        self._daemon.handle(e.PinChanged(at=time.monotonic(), instance=instance, pin=params.pin))
        return m.Pinned(instance=instance, pin=params.pin)

    def _require_instance(self, connection: Connection, instance: str, what: str) -> None:
        self._daemon.access.require_admin(connection.peer, what)
        if instance not in self._state().instances:
            raise LmxdError("unknown_instance", f"there is no instance {instance}", "lmxctl ps lists them")

    def _drain(self, connection: Connection, params: m.DrainParams) -> m.Drained:
        self._daemon.access.require_admin(connection.peer, "drain lmxd")
        hit("draining")
        at = time.monotonic()
        self._daemon.handle(e.DrainEnded(at=at) if params.end else e.DrainRequested(at=at, now=params.now))
        state = self._state()
        return m.Drained(draining=state.draining, instances=len(state.instances), leases=len(state.leases))

    def _logs(self, connection: Connection, params: m.LogsParams) -> m.Logs:
        path = self._daemon.launches.log_path(params.instance)
        known = params.instance in self._state().instances or params.instance in self._answers.users
        if not known and not (
            self._daemon.access.is_admin(connection.peer) and "/" not in params.instance and path.exists()
        ):
            raise LmxdError("unknown_instance", f"there is no instance {params.instance}", "lmxctl ps lists them")
        self._daemon.access.require_owner(
            connection.peer, self._answers.users.get(params.instance, set()), f"the log of {params.instance}"
        )
        return m.Logs(instance=params.instance, lines=tail(path, params.lines))

    def _hello(self, params: m.HelloParams) -> m.Hello:
        if params.protocol.split(".")[0] != m.PROTOCOL.split(".")[0]:
            raise LmxdError(
                "invalid_params", f"protocol is {params.protocol!r}, but lmxd speaks {m.PROTOCOL}", "update the client"
            )
        return m.Hello(protocol=m.PROTOCOL, server=f"lmxd {__version__}", capabilities=sorted(methods.METHODS))

    async def _devices(self) -> list[b.Device]:
        await self._daemon.measure()
        return views.devices(self._state(), self._daemon.present.measured)

    async def _all_devices(self) -> b.Devices:
        return b.Devices(devices=await self._devices())

    def _instances(self, connection: Connection) -> b.Instances:
        self._daemon.launches.look()
        return b.Instances(
            instances=views.instances(self._state(), self._daemon.performer, self._daemon.access, connection.peer)
        )

    def _queue(self, connection: Connection) -> b.Queue:
        return b.Queue(
            depth=self._state().policy.queue_depth,
            tickets=views.queue(self._state(), self._daemon.access, connection.peer),
        )

    async def _plan(self, connection: Connection, params: x.PlanParams) -> x.Planned:
        size = self._requests.size(connection, params)
        await self._daemon.asks.warm(params.model, size)
        ask = self._daemon.asks.ask(params.model, size)
        return explaining.plan(self._daemon.admission, ask, connection.peer, params.deadline)

    async def _reload(self, connection: Connection) -> m.Reloaded:
        self._daemon.access.require_admin(connection.peer, "reload the configuration")
        return m.Reloaded(path=str(self._daemon.config_path), warnings=await self._daemon.reload())

    def _watch(self, connection: Connection) -> m.Watching:
        self._answers.watching[connection.id] = connection
        return m.Watching()

    async def _why(self, wanted: str) -> o.Why:
        await self._daemon.measure()
        found, performer = owners.find(self._daemon.present.measured, wanted), self._daemon.performer
        ours = {pid for pids in performer.pids().values() for pid in pids}
        foreign = await asyncio.to_thread(owners.foreign, found, ours)
        return owners.why(self._state(), performer, found, foreign)

    async def _yield(self, connection: Connection, params: h.YieldParams) -> h.Yielded:
        self._daemon.access.require_admin(connection.peer, "have a device yielded")
        await self._daemon.measure()
        measured = self._daemon.present.measured
        if params.device is None and len(measured) > 1:
            raise LmxdError("invalid_params", "device: there are several", f"name one of {owners.names(measured)}")
        device = owners.find(measured, params.device or measured[0].id).id
        id = f"y-{secrets.token_hex(4)}"
        self._daemon.handle(
            e.YieldRequested(at=time.monotonic(), id=id, device=device, size=params.bytes, lasts=params.lasts)
        )
        account = self._state().ledger.accounts[device]
        free = account.yielded + min(0, account.headroom)
        return h.Yielded(id=id, device=device, bytes=params.bytes, lasts=params.lasts, free=max(0, free))

    def _unyield(self, connection: Connection, id: str) -> h.YieldOver:
        self._daemon.access.require_admin(connection.peer, "end a yield")
        if not any(id in a.yields for a in self._state().ledger.accounts.values()):
            raise LmxdError("unknown_id", f"there is no yield {id}", "it may be over already")
        self._daemon.handle(e.YieldEnded(at=time.monotonic(), id=id))
        return h.YieldOver(id=id)

    async def _status(self) -> b.Status:
        devices = await self._devices()
        state = self._state()
        return b.Status(
            version=__version__,
            uptime=time.monotonic() - self._started,
            engine=self._daemon.engine_name,
            admission=state.policy.enforce,
            draining=state.draining,
            devices=devices,
            instances=len(state.instances),
            leases=len(state.leases),
            waiting=len(state.queue),
            queue_depth=state.policy.queue_depth,
            broken_invariants=broken(state),
            warnings=[*self._daemon.warnings, *self._daemon.health.faults()],
        )

    async def _models(self) -> b.Models:
        return b.Models(models=[await self._model(name) for name in sorted(self._daemon.catalog.config.models)])

    async def _model(self, name: str) -> b.Model:
        profile = self._daemon.catalog.profile(name)
        running = sum(1 for i in self._state().instances.values() if i.ask.profile == name)
        await self._daemon.asks.warm(name)
        launch = self._daemon.catalog.launch(name)
        view = b.Model(
            model=name,
            aliases=list(profile.aliases),
            ctx=launch.context,
            slots=profile.slots,
            bytes={},
            running=running,
        )
        try:
            ask = self._daemon.asks.ask(name)
            charge = {device: n for o in ask.options if not o.spills and not o.split for device, n in o.demand.items()}
            path, basis = self._daemon.catalog.place(name), self._daemon.catalog.basis(name)
            view = view.model_copy(update={"bytes": charge, "basis": basis, "path": path})
        except LmxdError as error:
            return view.model_copy(update={"problem": str(error)})
        failed = self._state().failed.get(ask.launch)
        if failed is None:
            return view
        left = max(0.0, failed.until - time.monotonic())
        problem = f"it failed to load: {failed.failure.message}" if left else None
        return view.model_copy(update={"failures": failed.count, "retry_in": left, "problem": problem})

    def _forget(self, connection: Connection, params: es.ForgetParams) -> es.Forgotten:
        self._daemon.access.require_admin(connection.peer, "forget what was learned")
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
        await self._daemon.asks.warm(params.model, size)
        return explain(self._daemon.catalog, params.model, size, self._daemon.present.kinds)

    def _state(self) -> State:
        return self._daemon.admission.state
