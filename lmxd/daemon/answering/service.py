"""The service: it hands each call to the object that answers it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from lmxd import __version__
from lmxd.acts import Acts
from lmxd.core.books.state import State
from lmxd.core.events import ClientLeft, Event
from lmxd.core.words import ConnectionId, Hold
from lmxd.daemon.answering import audit
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.administration import Administration
from lmxd.daemon.answering.answers import Answers
from lmxd.daemon.answering.growing import Moving
from lmxd.daemon.answering.holding import Holding
from lmxd.daemon.answering.inspection import Inspection
from lmxd.daemon.answering.keeping_alive import KeepingAlive
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.answering.models import ModelCalls
from lmxd.daemon.answering.requests import Requests
from lmxd.daemon.answering.shelving import Shelving
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.served_directories import ServedDirectories
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import framing
from lmxd.rpc.estimates import EstimateParams
from lmxd.rpc.keeping_alive import KeepAliveParams
from lmxd.rpc.messages import PROTOCOL, Hello, HelloParams, Params, RequestParams, Watching, Wish
from lmxd.rpc.methods import METHODS, described
from lmxd.rpc.model_files import ShowParams
from lmxd.rpc.peer import Peer
from lmxd.rpc.replies import Handled
from lmxd.rpc.server import Connection

Calls: TypeAlias = Mapping[str, Callable[[Connection, framing.Id, Any], Awaitable[Handled] | Handled]]
"""By method: the function that answers it, from connection, id and parameters."""


def calls(
    requests: Requests,
    leasing: Leasing,
    holding: Holding,
    administration: Administration,
    inspection: Inspection,
    models: ModelCalls,
    keeping_alive: KeepingAlive,
    moving: Moving,
    shelving: Shelving,
) -> Calls:
    """The table of all methods but ``watch``, which the service answers itself."""
    return {
        "hello": lambda c, i, p: _hello(p),
        "describe": lambda c, i, p: described(),
        "request": requests.request,
        "grow": moving.grow,
        "shelve": lambda c, i, p: shelving.shelve(c, p),
        "release": lambda c, i, p: leasing.release(c, p.lease),
        "renew": lambda c, i, p: leasing.renew(c, p),
        "cancel": lambda c, i, p: leasing.cancel(c, p),
        "hold": holding.hold,
        "adopt": lambda c, i, p: holding.adopt(c, p),
        "yield": lambda c, i, p: administration.yield_(p),
        "unyield": lambda c, i, p: administration.unyield(p.id),
        "plan": lambda c, i, p: requests.plan(c, p),
        "explain": lambda c, i, p: requests.explain(c, p.id),
        "status": lambda c, i, p: inspection.status(),
        "devices": lambda c, i, p: inspection.devices(),
        "overview": lambda c, i, p: inspection.overview(c),
        "why": lambda c, i, p: inspection.why(p.device),
        "instances": lambda c, i, p: inspection.instances(c),
        "queue": lambda c, i, p: inspection.queue(c),
        "models": lambda c, i, p: models.models(),
        "keep_alive": lambda c, i, p: keeping_alive.keep_alive(c, p),
        "show": lambda c, i, p: models.show(c, p.model),
        "estimate": lambda c, i, p: models.estimate(c, p),
        "estimates": lambda c, i, p: models.estimates(),
        "forget": lambda c, i, p: administration.forget(p),
        "logs": lambda c, i, p: inspection.logs(c, p),
        "stop": lambda c, i, p: administration.stop(p.instance),
        "pin": lambda c, i, p: administration.pin(p),
        "drain": lambda c, i, p: administration.drain(p),
        "reload": lambda c, i, p: administration.reload(),
    }


def _hello(params: HelloParams) -> Hello:
    if params.protocol.split(".")[0] != PROTOCOL.split(".")[0]:
        raise LmxdError(
            "invalid_params", f"protocol is {params.protocol!r}, but lmxd speaks {PROTOCOL}", "update the client"
        )
    return Hello(protocol=PROTOCOL, server=f"lmxd {__version__}", capabilities=sorted(METHODS))


class Service:
    """The handler of all calls: it checks and logs who does what, and waits until a lasting effect is written."""

    def __init__(
        self,
        calls: Calls,
        state: State,
        access: Access,
        answers: Answers,
        served: ServedDirectories,
        outbox: Outbox,
        report: Callable[[Event], None],
    ) -> None:
        self._calls: Calls = {**calls, "watch": lambda c, i, p: self._watch(c)}
        unanswered = set(METHODS) ^ set(self._calls)
        assert not unanswered, f"a row of METHODS and a row of calls go together: {unanswered}"
        self._state = state
        self._access = access
        self._answers = answers
        self._served = served
        self._outbox = outbox
        self._report = report
        self.acts = Acts(audit.log)

    async def call(self, connection: Connection, call: framing.Call, params: Params) -> Handled:
        """Answer one call. Raises LmxdError for a refusal."""
        called = METHODS[call.name]
        if not called.act:
            return await self._answered(connection, call, params)
        told = partial(called.told, params)
        with self.acts.act(audit.actor(connection.peer), told, quiet=called.quiet):
            if called.admin:
                self._access.require_admin(connection.peer, told())
            return await self._answered(connection, call, params)

    async def _answered(self, connection: Connection, call: framing.Call, params: Params) -> Handled:
        if isinstance(params, (Wish, EstimateParams, ShowParams, KeepAliveParams)):
            name = await self._served.own_name(params.model)
            if isinstance(params, RequestParams) and self._served.is_variant(params.model):
                raise LmxdError(
                    "invalid_params",
                    f"model: {params.model} is {name} with parameters that the gateway sets, and an endpoint does not",
                    f"ask the gateway, or for {name} and send what lmxctl models --json shows",
                )
            params = params if name == params.model else params.model_copy(update={"model": name})
        answer = self._calls[call.name](connection, call.id, params)
        found: Handled = await answer if inspect.isawaitable(answer) else answer
        if METHODS[call.name].lasting and call.wants_answer:
            await self._outbox.settled()
        return found

    async def identify(self, peer: Peer) -> Peer:
        try:
            found = await self._access.identify(peer)
        except LmxdError as error:
            self.acts.refused(audit.actor(peer), "connect", error.code)
            raise
        if found.subordinate is not None:  # grants are logged by the owner's uid alone
            self.acts.repeatable(audit.actor(found), "connect")
        return found

    def is_privileged(self, peer: Peer) -> bool:
        return self._access.is_admin(peer)

    def keeps(self, connection: Connection) -> bool:
        if connection in self._answers.watchers:
            return True
        held = self._state.leases.values()
        return any(lease.hold is Hold.CONNECTION and lease.owner.connection == connection.id for lease in held)

    def left(self, connection: Connection) -> None:
        self._answers.forget(connection)
        self._report(ClientLeft(at=time.monotonic(), connection=ConnectionId(connection.id)))
        hit("client_left")

    def _watch(self, connection: Connection) -> Watching:
        self._answers.watchers.add(connection)
        return Watching()
