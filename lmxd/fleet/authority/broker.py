"""The broker's process: nats-server with the fleet's members, and on one box the authority that takes them in."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiohttp import web
from nats.aio.msg import Msg
from nats.errors import Error

from lmxd.errors import LmxdError
from lmxd.fleet import bus, private_files
from lmxd.fleet.addresses import bound
from lmxd.fleet.authority.bucket import is_kept, make
from lmxd.fleet.authority.certificates import requested
from lmxd.fleet.authority.joining import Joining, joining_context
from lmxd.fleet.authority.nats_config import BusServer, Peering, configuration
from lmxd.fleet.authority.nats_server import NatsServer
from lmxd.fleet.authority.office import Office
from lmxd.fleet.authority.removals import Removals
from lmxd.fleet.authority.roll import Enrolled
from lmxd.fleet.authority.rolls import OwnRoll, Rolls, ToldRoll
from lmxd.fleet.home import FleetHome
from lmxd.fleet.members import MemberRole
from lmxd.fleet.names import MEMBERS
from lmxd.fleet.renewing import keep_renewed
from lmxd.listening.connections import Connections, descriptors
from lmxd.listening.listen import listen
from lmxd.systemd import Notifier

log = logging.getLogger("lmxd.fleet.broker")
_BROKER: Final = MemberRole.BROKER
_REPLICAS: Final = 3
"""Servers that keep the cards, where there are so many."""


class Brokerage:
    """One nats-server, whose configuration follows the roll."""

    def __init__(self, home: FleetHome, rolls: Rolls) -> None:
        self._home, self._rolls = home, rolls
        self._server = NatsServer(home.directory(_BROKER))
        self.ready = asyncio.Event()
        """Members are served, and the bucket of cards is there."""

    async def keep(self) -> None:
        """Run nats-server. LmxdError ``config`` if it cannot begin."""
        await self._server.keep(self.configuration)

    async def follow(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Give it each further roll, and ``tell`` of it. Members stay connected, unless the brokers are others."""
        while True:
            before = self.brokers()
            await self._rolls.changed()
            if [x.cluster for x in before] != [x.cluster for x in self.brokers()]:
                log.info("the brokers are now %s", ", ".join(x.address for x in self.brokers()))
                self._server.restart()
            elif self._server.reload(self.configuration()):
                log.info("nats-server is told of %d members", len(self._rolls.entries()))
            await tell()

    def refresh(self) -> None:
        """Have nats-server read its certificate again."""
        self._server.refresh()

    def brokers(self) -> list[Enrolled]:
        return [entry for entry in self._rolls.entries() if entry.role is _BROKER]

    def configuration(self) -> str:
        home, me = self._home, self._home.member(_BROKER)
        own = next((entry for entry in self.brokers() if entry.name == me.name), None)
        if own is None:
            raise LmxdError("config", f"{me.name} is no broker of {me.fleet}", "lmxd fleet token --role broker there")
        others = [entry for entry in self.brokers() if entry is not own]
        peering = Peering(
            address=own.cluster,
            routes=tuple(entry.cluster for entry in others),
            keys=tuple(entry.key for entry in self.brokers()),
        )
        server = BusServer(
            member=me,
            address=own.address,
            certificate=home.certificate(_BROKER),
            key=home.key(_BROKER),
            ca=home.ca,
            data=home.directory(_BROKER) / "data",
            peering=peering if others else None,
        )
        return configuration(server, {entry.member: entry.key for entry in self._rolls.entries()})

    async def keep_bucket(self) -> None:
        """See that the bucket of cards is there, by as many servers as there are for it."""
        again = asyncio.Event()

        async def found() -> None:
            again.set()

        client = await bus.connect(self._home, _BROKER, found=found)
        await client.subscribe(MEMBERS, queue="brokers", cb=self._tell_nodes)
        try:
            made = kept = 0
            while True:
                replicas = _REPLICAS if len(self.brokers()) >= _REPLICAS else 1
                try:
                    if made != replicas or again.is_set():
                        await make(client, replicas)
                        made = replicas
                        again.clear()
                        self.ready.set()
                    if kept != replicas and await is_kept(client, replicas):
                        kept = replicas
                        log.info("the cards are kept by %d of %d brokers", kept, len(self.brokers()))
                except Error as error:
                    log.debug("the bucket of cards is not there yet: %s", error)
                await asyncio.sleep(1)
        finally:
            await client.close()

    async def _tell_nodes(self, asked: Msg) -> None:
        found = sorted(entry.name for entry in self._rolls.entries() if entry.role is MemberRole.NODE)
        with suppress(Error):
            await asked.respond(msgspec.json.encode(found))


async def serve(home: FleetHome) -> None:
    """Serve until SIGTERM or SIGINT. LmxdError if it cannot begin."""
    if not home.authority.exists():
        told_roll = ToldRoll(home)
        await told_roll.begin()
        brokerage = Brokerage(home, told_roll)
        renewing = keep_renewed(home, _BROKER, renewed=brokerage.refresh)
        await _run(home, brokerage, [brokerage.follow(_nobody_waits), renewing])
        return
    office = Office(home.ca, home.authority)
    rolls = OwnRoll(office.roll)
    brokerage, joining, context = Brokerage(home, rolls), Joining(office, rolls.hint), joining_context(home)

    def renew(home: FleetHome, role: MemberRole) -> None:
        certificate = office.renew(home.member(role), requested(home.key(role).read_bytes()))
        private_files.write(home.certificate(role), certificate)

    async def tell() -> None:
        removals.hint()
        await joining.tell()

    removals = Removals(home, office.roll)
    runner = web.AppRunner(joining.app(), access_log=None)
    await runner.setup()
    try:
        connections = Connections.within(descriptors())
        await listen(runner, "authority", bound(home.settings.authority), connections, tls=context)
        log.info("boxes join at %s", home.settings.authority)
        renewing = keep_renewed(home, _BROKER, [context], ask=renew, renewed=brokerage.refresh)
        await _run(home, brokerage, [brokerage.follow(tell), removals.tell(), renewing])
    finally:
        await runner.cleanup()


async def _nobody_waits() -> None:
    """No broker waits for the roll of this one."""


async def _run(home: FleetHome, brokerage: Brokerage, further: list[Coroutine[Any, Any, None]]) -> None:
    """Do all of a broker's work until a signal, or until one part fails. LmxdError."""
    loop, told, notifier = asyncio.get_running_loop(), asyncio.Event(), Notifier()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    async def announce() -> None:
        await brokerage.ready.wait()
        notifier.ready(f"members of the fleet {home.settings.fleet} are served")
        log.info("members of the fleet %s are served", home.settings.fleet)

    work: list[Coroutine[Any, Any, Any]] = [told.wait(), brokerage.keep(), brokerage.keep_bucket(), *further]
    tasks = [loop.create_task(each) for each in work]
    announcing = loop.create_task(announce())
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        notifier.stopping()
        for task in done:
            task.result()
    finally:
        for task in (*tasks, announcing):
            task.cancel()
        await asyncio.gather(*tasks, announcing, return_exceptions=True)
