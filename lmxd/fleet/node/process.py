"""The process of a node, from its settings to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from pathlib import Path
from typing import Final

from nats.aio.client import Client as Bus

from lmxd.config.gateway import GatewayConfig
from lmxd.errors import LmxdError
from lmxd.fleet import tls
from lmxd.fleet.addresses import bound
from lmxd.fleet.bus import connect
from lmxd.fleet.copying.copies import Copies, OwnLmxd
from lmxd.fleet.copying.offering import Offering
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.node.agent import Agent, NodeIdentity
from lmxd.fleet.node.alive import SignOfLife
from lmxd.fleet.node.direct_leases import DirectLeases
from lmxd.fleet.node.door import FleetEntrance
from lmxd.fleet.node.removed import Removed
from lmxd.fleet.node.services import NodeServices
from lmxd.fleet.renewing import keep_renewed
from lmxd.gateway.app import runner
from lmxd.gateway.leasing.leases import Leases
from lmxd.gateway.ollama.pulls import Pulls
from lmxd.listening.connections import Connections, descriptors
from lmxd.listening.listen import listen
from lmxd.pausing import pause
from lmxd.rpc.client import AsyncClient
from lmxd.systemd import Notifier

log = logging.getLogger("lmxd.fleet.node")
_PAUSE: Final = 1.0
"""Seconds between two looks whether lmxd is there."""


async def serve(home: FleetHome, config: GatewayConfig, own: OwnLmxd) -> None:
    """Serve until SIGTERM or SIGINT, from when lmxd is there. LmxdError if it cannot begin.

    ``config``: of the gateway of this box; the door takes its bounds. ``own``: the lmxd of this box.
    """
    loop, told, notifier = asyncio.get_running_loop(), asyncio.Event(), Notifier()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    tls.client_context(home, MemberRole.NODE)  # who is no node need not wait for lmxd to hear so
    if await _lmxd_is_there(own.socket, told, notifier):
        await _serve(home, config, own, told, notifier)


async def _lmxd_is_there(socket: Path, told: asyncio.Event, notifier: Notifier) -> bool:
    """Wait for lmxd. Returns False if this process is told to end before."""
    said = ""
    while not told.is_set():
        try:
            async with AsyncClient(socket, patience=0):
                return True
        except LmxdError as error:
            if str(error) != said:
                log.warning("lmxd is waited for: %s", error)
                notifier.ready("waits for lmxd")
            said = str(error)
        await pause(told, _PAUSE)
    return False


async def _serve(home: FleetHome, config: GatewayConfig, own: OwnLmxd, told: asyncio.Event, notifier: Notifier) -> None:
    loop, socket, copies = asyncio.get_running_loop(), own.socket, Copies(home, own)
    pulls = Pulls(own.config, socket, user=own.user)
    settings, door = home.settings, tls.server_context(home, MemberRole.NODE)
    outwards = tls.client_context(home, MemberRole.NODE)
    async with Leases(socket, instances=config.instances) as leases, AsyncClient(socket) as lmxd:
        direct = DirectLeases(lmxd, socket, node=settings.node, address=settings.door)
        routes = [*direct.routes(), *Offering(lmxd, own.config).routes(), *SignOfLife(lmxd).routes()]
        connections = Connections.within(descriptors())
        removed = Removed(home.directory(MemberRole.NODE) / "removed.json", connections)
        running = runner(config, leases, FleetEntrance(settings.fleet, removed), pulls, routes)
        await running.setup()
        agent = Agent(NodeIdentity(settings.node, settings.door, settings.labels), socket)
        services = NodeServices(settings.node, lmxd, direct, copies, config.instances)
        speaking = Speaking(home, outwards, agent, services, removed)
        try:
            await listen(running, "door", settings.listen or bound(settings.door), connections, tls=door)
            notifier.ready(f"node {settings.node} of {settings.fleet}, at {settings.door}")
            log.info("the node %s of the fleet %s is at %s", settings.node, settings.fleet, settings.door)
            renewing = keep_renewed(home, MemberRole.NODE, [door, outwards])
            tasks = [loop.create_task(each) for each in (told.wait(), speaking.run(), renewing)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await speaking.end()
            for task in done:
                task.result()
        finally:
            await running.cleanup()
            await copies.close()
            await direct.close()


class Speaking:
    """The words of a node on NATS, and its answers there, from when a broker is there."""

    def __init__(
        self, home: FleetHome, context: ssl.SSLContext, agent: Agent, services: NodeServices, removed: Removed
    ) -> None:
        self._home, self._context, self._agent, self._services = home, context, agent, services
        self._removed = removed
        self._bus: Bus | None = None

    async def run(self) -> None:
        """Speak until cancelled. LmxdError ``config`` if this box cannot connect at all."""
        bus = self._bus = await connect(self._home, MemberRole.NODE, context=self._context, found=self._agent.found)
        await self._removed.hear(bus)
        await self._services.begin(bus)
        log.info("NATS is there: the fleet can see this node")
        await self._agent.run(bus)

    async def end(self) -> None:
        """Take leave: what is being answered goes on, and nothing new is asked."""
        if self._bus is not None:
            await self._agent.leave(self._bus)
            await self._bus.close()
