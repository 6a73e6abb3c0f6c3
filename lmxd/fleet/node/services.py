"""The service of a node on NATS, as ``nats micro ls`` shows it: calls come in, lmxd answers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import nats.errors
from nats import micro
from nats.aio.client import Client as Bus
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import ValidationError

from lmxd import __version__
from lmxd.errors import LmxdError
from lmxd.fleet import names
from lmxd.fleet.calls import CALLS, CallName, error_body, subject
from lmxd.fleet.copying.copies import Copies
from lmxd.fleet.node.direct_leases import DirectLeases
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.messages import Params, Result
from lmxd.text import escaped, shortened

log = logging.getLogger(__name__)
_MOST: Final = 512
"""Calls that are answered at a time, most of which wait in lmxd's queue."""
_LONGEST: Final = 300
"""Characters of an error in a header; its body has all of it."""


class NodeServices:
    """Answers the calls of a fleet's gateways and operators; NATS lets in nobody else.

    ``lmxd``: a connection to the daemon, as an administrator. ``instances``: how many of a model may run at once for
    requests that come in at the door, for which plans are made.
    """

    def __init__(self, node: str, lmxd: AsyncClient, leases: DirectLeases, copies: Copies, instances: int) -> None:
        self._node = node
        self._answering: set[asyncio.Task[None]] = set()
        self.answers: Mapping[CallName, Callable[[Any], Awaitable[Result]]] = {
            CallName.PLAN: lambda params: lmxd.plan(**(dict(params) | {"max_instances": instances})),
            CallName.REQUEST: leases.request,
            CallName.DRAIN: lambda params: lmxd.drain(**dict(params)),
            CallName.PS: lambda _: lmxd.instances(),
            CallName.QUEUE: lambda _: lmxd.queue(),
            CallName.COPY: copies.copy,
        }

    async def begin(self, bus: Bus) -> Service:
        """Answer from now on, until the service is stopped; also when the connection was lost and is there again."""
        service = await micro.add_service(
            bus,
            name=names.SERVICE,
            version=__version__,
            description="lmxd: GPU memory of one box",
            metadata={"node": self._node},
        )
        group = service.add_group(name=names.calls(self._node))
        for name in self.answers:
            await group.add_endpoint(name=name, handler=self._handler(name))
        return service

    def _handler(self, name: CallName) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            """NATS has the next call of an endpoint wait for this to return, and a lease may take minutes."""
            if request.subject != subject(self._node, name):
                return  # what NATS keeps, sent here at the wish of another member
            task = asyncio.get_running_loop().create_task(self._answer(name, request))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        return handle

    async def _answer(self, name: CallName, request: Request) -> None:
        try:
            if len(self._answering) > _MOST:
                raise LmxdError("too_many", f"node {self._node} answers {_MOST} calls already", "ask again later")
            found = await self.answers[name](_params(name, request.data))
        except LmxdError as error:
            await _refuse(request, error)
        except Exception as error:
            log.exception("%s failed", name)
            await _refuse(request, LmxdError("internal", f"{type(error).__name__}: {error}", "see the node's log"))
        else:
            await _respond(request, name, found)


def _params(name: CallName, data: bytes) -> Params:
    """The parameters of a call. LmxdError ``invalid_params``, which names key and value."""
    try:
        return CALLS[name].params.model_validate_json(data or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "it"
        value = shortened(escaped(repr(first["input"])), 100)
        what = f"{name}: {key} is {value}: {first['msg']}"
        raise LmxdError("invalid_params", what, "see lmxd.describe for its parameters") from error


async def _respond(request: Request, name: CallName, found: Result) -> None:
    try:
        await request.respond(found.model_dump_json().encode())
    except (nats.errors.Error, ValueError) as error:  # a call without an address for its answer, or NATS is gone
        log.warning("the answer to %s could not be sent: %r", name, error)


async def _refuse(request: Request, error: LmxdError) -> None:
    said = shortened(escaped(error.message), _LONGEST)
    try:
        await request.respond_error(error.code, said, error_body(error))
    except (nats.errors.Error, ValueError) as gone:
        log.warning("an error could not be sent: %r", gone)
