"""The state of lmxd as clients see it: its devices, instances, queue and logs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from lmxd import __version__
from lmxd.core.books.state import State
from lmxd.core.invariants import broken
from lmxd.core.words import InstanceId
from lmxd.daemon.answering import device_views, owners, views
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.answers import Answers
from lmxd.daemon.answering.health import Health
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.present import Present
from lmxd.devices.measurement import Measurement
from lmxd.errors import LmxdError
from lmxd.instances.logs import tail
from lmxd.rpc.books import Device, Devices, Instances, QueueInfo, Status
from lmxd.rpc.messages import Logs, LogsParams
from lmxd.rpc.overview import Overview
from lmxd.rpc.owners import Why
from lmxd.rpc.server import Connection

log = logging.getLogger(__name__)


class Inspection:
    """Answers the calls that show the state: ``status``, ``devices``, ``instances``, ``queue``, ``why``, ``logs``.

    ``overview`` is most of these in one.
    """

    def __init__(
        self,
        state: State,
        access: Access,
        present: Present,
        performer: Performer,
        answers: Answers,
        health: Health,
        measure: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._state = state
        self._access = access
        self._present = present
        self._performer = performer
        self._answers = answers
        self._health = health
        self._measure = measure
        self._started = time.monotonic()

    def logs(self, connection: Connection, params: LogsParams) -> Logs:
        path = self._performer.launches.log_path(InstanceId(params.instance))
        known = params.instance in self._state.instances or params.instance in self._answers.users
        if not known and not (self._access.is_admin(connection.peer) and "/" not in params.instance and path.exists()):
            raise LmxdError("unknown_instance", f"there is no instance {params.instance}", "lmxctl ps lists them")
        now = self._state.instances.get(InstanceId(params.instance))
        served = self._answers.users.get(params.instance) or set()
        served = served | {lease.owner.uid for lease in now.leases.values()} if now else set()
        self._access.require_owner(connection.peer, served, f"the log of {params.instance}")
        return Logs(instance=params.instance, lines=tail(path, params.lines))

    async def _seen(self) -> list[Device]:
        await self._look()
        return device_views.devices(self._state, self._present.measured)

    async def devices(self) -> Devices:
        return Devices(devices=await self._seen())

    def instances(self, connection: Connection) -> Instances:
        self._performer.launches.look()
        found = views.instances(self._state, self._present, self._performer, self._access, connection.peer)
        moving = views.moving(self._state, self._access, connection.peer)
        return Instances(instances=found, moving=moving, called=self._state.ledger.called)

    def queue(self, connection: Connection) -> QueueInfo:
        return QueueInfo(
            depth=self._state.policy.queue_depth,
            tickets=views.queue(self._state, self._access, connection.peer),
            yields=device_views.yields(self._state, self._state.ledger.accounts.values()),
            called=self._state.ledger.called,
        )

    async def _look(self) -> None:
        try:
            await self._measure()
        except OSError as error:  # such as no descriptor left: who is connected is told what was seen last
            log.warning("the devices could not be looked at: %s", error)

    async def why(self, wanted: str) -> Why:
        await self._look()
        (found,) = await self._owners([owners.find(self._present.measured, wanted)])
        return found

    async def _owners(self, measured: Sequence[Measurement]) -> list[Why]:
        ours = {pid for pids in (await self._performer.pids()).values() for pid in pids}
        foreign = await asyncio.to_thread(owners.foreign, measured, ours)
        return [owners.why(self._state, self._performer, *each) for each in zip(measured, foreign, strict=True)]

    async def overview(self, connection: Connection) -> Overview:
        await self._look()
        measured = self._present.measured
        found = await self._owners(measured)
        running = self.instances(connection)
        return Overview(
            status=self._status(device_views.devices(self._state, measured), connection),
            owners=found,
            instances=running.instances,
            moving=running.moving,
            queue=self.queue(connection).tickets,
        )

    async def status(self, connection: Connection) -> Status:
        return self._status(await self._seen(), connection)

    def _status(self, devices: list[Device], connection: Connection) -> Status:
        state, engines = self._state, self._present.engines()
        return Status(
            version=__version__,
            uptime=time.monotonic() - self._started,
            engine=next(iter(engines.values())),
            engines=engines,
            admission=state.policy.enforce,
            draining=state.draining,
            devices=devices,
            instances=len(state.instances),
            leases=len(state.leases),
            waiting=len(state.queue),
            eta=views.served_in(state),
            queue_depth=state.policy.queue_depth,
            users=views.users(state, self._access, connection.peer),
            broken_invariants=broken(state),
            warnings=[
                *self._present.all_warnings(),
                *self._health.warnings(),
            ],
        )
