"""The HTTPS service of the authority: boxes join by a token, and renew by the certificate that they have."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.fleet import joining_messages as messages
from lmxd.fleet.authority.office import Office
from lmxd.fleet.authority.roll import encoded, version_of
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import Member, MemberRole
from lmxd.fleet.reading import read
from lmxd.fleet.tls import peer, server_context
from lmxd.throttle import Throttle

log = logging.getLogger(__name__)
_STATUS: Final = {"not_permitted": 403, "invalid_params": 400, "too_many": 429}
_WAIT: Final = 25.0
"""Seconds after which a broker that waits for another roll is answered that there is none."""
_MessageT = TypeVar("_MessageT", bound=msgspec.Struct)


def joining_context(home: FleetHome) -> ssl.SSLContext:
    """TLS of the service: who joins has no certificate yet. LmxdError ``config``."""
    context = server_context(home, MemberRole.BROKER)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Joining:
    """The routes. ``changed``: called when the roll is another; ``now``: a clock that never goes back, in seconds."""

    def __init__(
        self,
        office: Office,
        changed: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        wait: float = _WAIT,
    ) -> None:
        """``wait``: the most seconds until a broker is answered that waits for another roll."""
        self._office, self._changed, self._now, self._wait = office, changed, now, wait
        self._throttle = Throttle(most=20, together=120)
        self._turn = asyncio.Condition()
        self._ends = False

    def app(self) -> web.Application:
        made = web.Application(client_max_size=messages.LARGEST, middlewares=[_answered])
        made.router.add_get(messages.AUTHORITY_PATH, self._authority)
        made.router.add_post(messages.JOIN_PATH, self._join)
        made.router.add_post(messages.RENEW_PATH, self._renew)
        made.router.add_get(messages.ROLL_PATH, self._roll)
        made.on_shutdown.append(self._end)
        return made

    async def tell(self) -> None:
        """The roll is another one: brokers that wait for it hear so."""
        async with self._turn:
            self._turn.notify_all()

    async def _end(self, _: web.Application) -> None:
        """Brokers that wait are answered now: this program would wait for them before it ends."""
        self._ends = True
        await self.tell()

    async def _authority(self, request: web.Request) -> web.Response:
        return web.Response(body=self._office.authority.certificate, content_type="application/x-pem-file")

    async def _join(self, request: web.Request) -> web.Response:
        now = self._now()
        self._throttle.due(now)
        if not self._throttle.passes(request.remote, now):
            raise LmxdError("too_many", "too many boxes ask to join", "ask again in a minute")
        said = await _said(request, messages.JoinRequest)
        requests = {role: csr.encode() for role, csr in said.requests.items()}
        secret = bytes.fromhex(said.secret)
        certificates = self._office.join(secret, said.name, requests, address=said.address, cluster=said.cluster)
        log.info("%s joins as %s, from %s", said.name, " and ".join(requests), request.remote)
        self._changed()
        answer = messages.JoinAnswer(
            fleet=self._office.authority.fleet,
            certificates={role: pem.decode() for role, pem in certificates.items()},
            brokers=[entry.address for entry in self._office.roll.all() if entry.role is MemberRole.BROKER],
        )
        return _json(answer)

    async def _renew(self, request: web.Request) -> web.Response:
        member = _member(request, self._office.authority.fleet)
        said = await _said(request, messages.RenewRequest)
        certificate = self._office.renew(member, said.request.encode())
        log.info("the certificate of %s %s is renewed", member.role, member.name)
        self._changed()
        return _json(messages.RenewAnswer(certificate=certificate.decode()))

    async def _roll(self, request: web.Request) -> web.Response:
        member = _member(request, self._office.authority.fleet)
        if member.role is not MemberRole.BROKER or self._office.roll.find(member) is None:
            raise LmxdError("not_permitted", f"{member.role} {member.name} is no broker of this fleet")
        known = request.query.get("known", "")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait), self._turn:
                await self._turn.wait_for(lambda: self._ends or version_of(self._content()) != known)
        content = self._content()
        headers = {messages.VERSION_HEADER: version_of(content)}
        return web.Response(body=content, content_type="application/json", headers=headers)

    def _content(self) -> bytes:
        return encoded(self._office.roll.all())


def _member(request: web.Request, fleet: str) -> Member:
    """The member that asks, by its certificate. LmxdError ``not_permitted``."""
    found = None if request.transport is None else peer(request.transport)
    if found is None or found.fleet != fleet:
        raise LmxdError("not_permitted", "this is for members: the request has no certificate of this fleet")
    return found


async def _said(request: web.Request, kind: type[_MessageT]) -> _MessageT:
    try:
        return read(await request.read(), kind)
    except ValueError as error:
        raise LmxdError("invalid_params", f"the request is not understood: {error}", "update lmxd there") from error


def _json(answer: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


@web.middleware
async def _answered(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
    """Errors as JSON. Refusals are in the log: who comes with a token that does not count is of interest."""
    try:
        return await handler(request)  # type: ignore[misc, no-any-return]
    except LmxdError as error:
        log.warning("%s refused for %s (%s): %s", request.path[:100], request.remote, error.code, error.message)
        answer = messages.JoiningError(code=error.code, message=error.message, remedy=error.remedy)
        response = _json(answer)
        response.set_status(_STATUS.get(error.code, 500))
        return response
