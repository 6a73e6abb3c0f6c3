"""Leases of clients that come to a node's door without a gateway between: by TTL, renewed here.

Nothing of them is kept but what lmxd keeps. So they outlive this process: whoever knows a lease and its key is let in
by a new one, too.
"""

from __future__ import annotations

import contextlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from lmxd.errors import LmxdError
from lmxd.fleet.calls import TTL, Direct, DirectRenewed, LeaseCall
from lmxd.gateway.http.paths import target
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.leasing.one_lease import OneLease
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.authentication import key_of
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import StatusError
from lmxd.gateway.requests.wanted import wants_stream
from lmxd.gateway.serving import Serving
from lmxd.rpc.client import AsyncClient
from lmxd.rpc.messages import Granted

_PREFIX: Final = "/lease"
_NOT_HERE: Final = "-"
"""The name of no instance: who renews a lease as being there is told where it is."""
_GROWTH_WAIT: Final = 300.0
"""Seconds that a growth of such a lease may wait in the queue."""
_MIB: Final = 2**20


@dataclass
class _Open:
    """A lease that requests have come for. ``until``: the time at which it ends unless it is renewed."""

    granted: Granted
    leases: OneLease
    serving: Serving
    until: float


class DirectLeases:
    """The leases of clients without a gateway. ``lmxd``: a connection to the daemon at ``socket``.

    ``address``: HOST:PORT of the door. LmxdError: the daemon's own.
    """

    def __init__(self, lmxd: AsyncClient, socket: Path, *, node: str, address: str) -> None:
        self._lmxd, self._socket, self._node, self._address = lmxd, socket, node, address
        self._open: dict[str, _Open] = {}
        self._bodies = Bodies(each=64 * _MIB, together=512 * _MIB)
        self._models, self._metrics = KnownModels(lmxd), GatewayMetrics()
        self._recent = RecentRequests(prompts=False)

    async def request(self, call: LeaseCall) -> Direct:
        """A lease from lmxd. One whose answer was lost is granted again by the same key."""
        granted = await self._lmxd.request(
            call.model,
            ctx=call.ctx,
            slots=call.slots,
            priority=call.priority,
            exclusive=call.exclusive,
            min_gpu_layers=call.min_gpu_layers,
            deadline=call.deadline,
            wait=call.wait,
            user=call.user,
            waited=call.waited,
            used_elsewhere=call.used_elsewhere,
            weight=call.weight,
            hold="ttl",
            ttl=TTL,
            idempotency_key=call.idempotency_key,
        )
        url = f"https://{self._address}{_PREFIX}/{granted.lease}"
        return Direct(
            node=self._node,
            lease=granted.lease,
            model=granted.model,
            base_url=url + granted.base_url.removeprefix(granted.endpoint),
            api_key=granted.api_key,
            ctx=granted.ctx,
            slots=granted.slots,
            ttl=TTL,
            waited=granted.waited,
        )

    async def _renewed(self, request: web.Request) -> web.Response:
        lease, expires_in = await self._held(request)
        if (found := self._open.get(lease)) is not None:
            found.until = time.monotonic() + expires_in
        return web.json_response(DirectRenewed(lease=lease, expires_in=expires_in).model_dump())

    async def _released(self, request: web.Request) -> web.Response:
        lease, _ = await self._held(request)
        await self._forget(lease)
        return web.json_response((await self._lmxd.release(lease)).model_dump())

    async def _held(self, request: web.Request) -> tuple[str, float]:
        """The lease of a request by its holder, and its seconds. StatusError 401 for others."""
        lease = request.match_info["lease"]
        granted, expires_in = await self._let_through(lease)
        _require(granted, key_of(request.headers))
        return lease, expires_in

    async def _let_through(self, lease: str) -> tuple[Granted, float]:
        """As ``_present``. StatusError 401 if there is none."""
        try:
            return await self._present(lease)
        except LmxdError as error:
            raise StatusError(401, "not_permitted", str(error), "request a lease") from error

    async def _present(self, lease: str) -> tuple[Granted, float]:
        """The lease as it is now, renewed, and its seconds.

        lmxd tells where a lease is to its own user alone, and gives a TTL to no lease that is held otherwise.
        """
        try:
            renewed = await self._lmxd.renew(lease, ttl=TTL, instance=_NOT_HERE)
        except LmxdError as error:
            if error.code not in ("not_permitted", "invalid_params"):
                raise
            raise _unknown(lease) from error
        if renewed.moved is not None:
            return renewed.moved, renewed.expires_in or TTL
        if (found := self._open.get(lease)) is not None:  # it is on its way to another instance
            return found.granted, renewed.expires_in or TTL
        raise _unknown(lease)

    def routes(self) -> list[web.RouteDef]:
        """The paths of leases at the door."""
        own = _PREFIX + "/{lease}"
        return [
            web.post(own, self._renewed),
            web.delete(own, self._released),
            web.route("*", own + "/{path:.*}", self._answer),
        ]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = await self._let_in(request.match_info["lease"], key_of(request.headers))
        try:
            body, wish = await self._bodies.read(request), LeaseWish(model=found.leases.model, wait=_GROWTH_WAIT)
            there = "/" + target(request).removeprefix(_PREFIX).lstrip("/").partition("/")[2]
            return await found.serving.hand_on(request, wish, there, body, streams=wants_stream(body))
        finally:
            self._bodies.release(request)

    async def _let_in(self, lease: str, key: str) -> _Open:
        """The lease, for whoever has its key. StatusError 401 for others."""
        found = self._open.get(lease)
        if found is None or found.until <= time.monotonic():
            await self._forget(lease)
            granted, expires_in = await self._let_through(lease)
            _require(granted, key)
            found = self._open[lease] = await self._opened(granted, time.monotonic() + expires_in)
        _require(found.granted, key)
        return found

    async def _opened(self, granted: Granted, until: float) -> _Open:
        for name in [name for name, each in self._open.items() if each.until <= time.monotonic()]:
            await self._forget(name)
        leases = OneLease(self._socket, granted)
        await leases.__aenter__()
        serving = Serving(leases, self._models, self._metrics, self._recent, _GROWTH_WAIT)
        return _Open(granted, leases, serving, until)

    async def _forget(self, lease: str) -> None:
        if (found := self._open.pop(lease, None)) is not None:
            await found.leases.__aexit__()

    async def close(self) -> None:
        """Close the connections of all. The leases stay, for a process after this one."""
        for lease in list(self._open):
            with contextlib.suppress(LmxdError):
                await self._forget(lease)


def _require(granted: Granted, key: str) -> None:
    if not hmac.compare_digest(key.encode(errors="surrogatepass"), granted.api_key.encode()):
        remedy = "send Authorization: Bearer KEY, with the api_key of the lease"
        raise StatusError(401, "not_permitted", "the key is not that of this lease", remedy)


def _unknown(lease: str) -> LmxdError:
    return LmxdError("unknown_lease", f"there is no lease {lease} of a client of the fleet", "request another")
