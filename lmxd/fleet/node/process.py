"""The process of a node, from its settings to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from typing import Final

from nats.aio.client import Client as Bus

from lmxd.config.gateway import GatewayConfig
from lmxd.config.keys import version_of
from lmxd.errors import LmxdError
from lmxd.fleet import tls
from lmxd.fleet.bus import connect
from lmxd.fleet.copying.copies import Copies, Own
from lmxd.fleet.copying.offering import Offering
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.node.agent import Agent, NodeIdentity
from lmxd.fleet.node.direct_leases import DirectLeases
from lmxd.fleet.node.door import FleetEntrance
from lmxd.fleet.node.services import NodeServices
from lmxd.gateway.app import runner
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.listening.connections import Connections, descriptors
from lmxd.listening.listen import listen
from lmxd.rpc.client import AsyncClient
from lmxd.systemd import Notifier

log = logging.getLogger("lmxd.fleet.node")
_LOOK: Final = 60.0
"""Seconds between two looks at the certificate, which is renewed while it is in use."""


async def serve(home: FleetHome, config: GatewayConfig, own: Own) -> None:
    """Serve until SIGTERM or SIGINT. LmxdError if it cannot begin.

    ``config``: of the gateway of this box; the door takes its bounds. ``own``: the lmxd of this box.
    """
    socket, copies, pulls = own.socket, Copies(home, own), Pulls(own.config, own.socket, user=own.user)
    loop, told, notifier = asyncio.get_running_loop(), asyncio.Event(), Notifier()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    settings, context = home.settings, tls.server_context(home, MemberRole.NODE)
    async with Leases(socket, instances=config.instances) as leases, AsyncClient(socket) as lmxd:
        direct = DirectLeases(lmxd, socket, node=settings.node, address=settings.door)
        routes = [*direct.routes(), *Offering(lmxd).routes()]
        running = runner(config, leases, FleetEntrance(settings.fleet), pulls, routes)
        await running.setup()
        agent = Agent(NodeIdentity(settings.node, settings.door, settings.labels), socket)
        speaking = Speaking(home, agent, NodeServices(settings.node, lmxd, direct, copies))
        try:
            await listen(running, "door", settings.door, Connections.within(descriptors()), tls=context)
            notifier.ready(f"node {settings.node} of {settings.fleet}, at {settings.door}")
            log.info("the node %s of the fleet %s is at %s", settings.node, settings.fleet, settings.door)
            tasks = [loop.create_task(each) for each in (told.wait(), speaking.run(), _renewed(home, context))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            notifier.stopping()
            await speaking.end()
            for task in tasks:
                task.cancel()
            for task in done:
                task.result()
        finally:
            await running.cleanup()
            await copies.close()
            await direct.close()


class Speaking:
    """The words of a node on NATS, and its answers there, from when a broker is there."""

    def __init__(self, home: FleetHome, agent: Agent, services: NodeServices) -> None:
        self._home, self._agent, self._services = home, agent, services
        self._bus: Bus | None = None

    async def run(self) -> None:
        """Speak until cancelled. LmxdError ``config`` if this box cannot connect at all."""
        bus = self._bus = await connect(self._home, MemberRole.NODE)
        await self._services.begin(bus)
        log.info("NATS is there: the fleet can see this node")
        await self._agent.run(bus)

    async def end(self) -> None:
        """Take leave: what is being answered goes on, and nothing new is asked."""
        if self._bus is not None:
            await self._agent.leave(self._bus)
            await self._bus.close()


async def _renewed(home: FleetHome, context: ssl.SSLContext) -> None:
    """Use a renewed certificate from when it is there."""
    known = version_of(home.certificate(MemberRole.NODE))
    while True:
        await asyncio.sleep(_LOOK)
        if known != (known := version_of(home.certificate(MemberRole.NODE))):
            try:
                tls.renew(context, home, MemberRole.NODE)
            except LmxdError as error:
                log.error("the certificate in force stays: %s", error)
