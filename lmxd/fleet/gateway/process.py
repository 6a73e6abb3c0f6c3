"""The process of a fleet's gateway, from its settings to its end."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from lmxd.config.gateway import GatewayConfig
from lmxd.fleet import tls
from lmxd.fleet.bus import connect
from lmxd.fleet.gateway.app import front
from lmxd.fleet.gateway.rereading import reread
from lmxd.fleet.hearing import HEARS, Hearing
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.renewing import keep_renewed
from lmxd.gateway.process import listening
from lmxd.gateway.requests.authentication import Authentication
from lmxd.pausing import pause


async def serve(home: FleetHome, config: GatewayConfig, address: str) -> None:
    """Serve until SIGTERM or SIGINT, once the nodes have been heard. LmxdError if it cannot begin."""
    settings, told = home.settings, asyncio.Event()
    authentication = Authentication(config)
    context = tls.client_context(home, MemberRole.GATEWAY)
    built = front(settings, authentication, context)
    heard = asyncio.create_task(_hear(home, built.hearing, context))
    heard.add_done_callback(lambda _: told.set())
    heard.add_done_callback(lambda _: built.hearing.complete.set())
    renewed = asyncio.create_task(keep_renewed(home, MemberRole.GATEWAY, [context]))
    try:
        await pause(built.hearing.complete, HEARS)  # who starts again would refuse the requests of its first second
        await listening(config, address, authentication, built.runner, told, partial(reread, home, built.quotas))
        if heard.done():
            await heard
    finally:
        heard.cancel()
        renewed.cancel()


async def _hear(home: FleetHome, hearing: Hearing, context: ssl.SSLContext) -> None:
    """Hear what nodes say until cancelled: requests that come before are told that nothing is known of any node."""
    bus = await connect(home, MemberRole.GATEWAY, context=context, lost=hearing.lost, found=hearing.found)
    try:
        await hearing.run(bus)
    finally:
        await bus.close()
