"""A gateway of one lease, for one program: its address and its key stay, though its lease moves."""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from aiohttp import web

from lmxd.acts import Acts
from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import Caller
from lmxd.gateway.guard import Guard
from lmxd.gateway.http.origins import Origins
from lmxd.gateway.http.paths import target
from lmxd.gateway.leasing.leases import LeaseWish
from lmxd.gateway.leasing.models import KnownModels
from lmxd.gateway.leasing.one_lease import OneLease
from lmxd.gateway.metrics import GatewayMetrics
from lmxd.gateway.recent import RecentRequests
from lmxd.gateway.requests.authentication import ANYBODY, CALLER, key_of
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import StatusError
from lmxd.gateway.requests.wanted import wants_stream
from lmxd.gateway.serving import Serving
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen
from lmxd.rpc.messages import Granted

_CONNECTIONS: Final = 256
"""The most that the program may have open at once."""
_GRACE: Final = 1.0
"""Seconds that requests in flight have once the program has ended."""
_MIB: Final = 2**20
_SAME: Final = {
    "/chat/completions": "/v1/chat/completions",
    "/completions": "/completion",
    "/responses": "/v1/responses",
}
"""Other paths by which llama-server has what it generates at."""


class OneKey:
    """Lets in whoever has the key of the relay, and nobody else."""

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(32)
        self.origins = Origins(())

    @contextlib.contextmanager
    def entered(self, request: web.Request) -> Iterator[Caller]:
        """LmxdError ``not_permitted`` for another key."""
        if not hmac.compare_digest(key_of(request.headers).encode(errors="surrogatepass"), self.key.encode()):
            remedy = "send Authorization: Bearer KEY, with the one in OPENAI_API_KEY"
            raise StatusError(401, "not_permitted", "the key is not that of this lease", remedy)
        request[CALLER] = ANYBODY
        yield ANYBODY

    def is_open(self, request: web.Request) -> bool:
        """Whether strangers may ask for it."""
        return False


@contextlib.asynccontextmanager
async def relay(leases: OneLease, lease: Granted, directory: Path, wait: float | None) -> AsyncIterator[Granted]:
    """Relays the requests of one program to its lease; the lease as that program is to have it.

    ``directory``: of nobody else, for the socket, where the lease has one. ``wait``: seconds that a growth may wait in
    the queue. LmxdError ``config`` if there can be no such address.
    """
    entrance, config = OneKey(), GatewayConfig()
    bodies = Bodies(each=int(config.max_body_mb * _MIB), together=int(config.max_bodies_mb * _MIB))
    models, recent = KnownModels(leases.client), RecentRequests(prompts=False)
    serving = Serving(leases, models, GatewayMetrics(), recent, wait, remote_media=True)

    async def answer(request: web.Request) -> web.StreamResponse:
        body, wish = await bodies.read(request), LeaseWish(model=leases.model, wait=wait)
        path, mark, query = target(request).partition("?")
        there = _SAME.get(path, path) + mark + query
        return await serving.hand_on(request, wish, there, body, streams=wants_stream(body))

    acts = Acts(logging.getLogger("lmxd.relay"))
    app = web.Application(middlewares=[Guard(entrance, bodies, acts).answer])
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    running = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)
    await running.setup()
    try:
        connections = Connections(strangers=_CONNECTIONS, known=_CONNECTIONS)
        yield await _listening(running, lease, directory, connections, entrance.key)
    finally:
        await running.cleanup()
        acts.end()


async def _listening(
    running: web.AppRunner, lease: Granted, directory: Path, connections: Connections, key: str
) -> Granted:
    """Begin to listen where the lease does: at a socket, or at a port of this machine."""
    if lease.socket is not None:
        path = str(directory / "relay.sock")
        await listen(running, "TMPDIR", f"unix:{path}", connections, mode=0o600)
        return lease.model_copy(update={"socket": path, "api_key": key})
    await listen(running, "the relay of a lease", "127.0.0.1:0", connections)
    endpoint = f"http://127.0.0.1:{running.addresses[0][1]}"
    path = lease.base_url.removeprefix(lease.endpoint)
    return lease.model_copy(update={"endpoint": endpoint, "base_url": endpoint + path, "api_key": key})
