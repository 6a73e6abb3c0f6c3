"""Builds a running lmxd: each part is given the few others that it uses."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmxd.accounts import account_warnings, engine_account
from lmxd.catalog.catalog import Catalog
from lmxd.catalog.size import Size
from lmxd.config.file import load
from lmxd.config.schema import Config
from lmxd.confinement.confined import gaps
from lmxd.core.admission import Admission
from lmxd.core.decisions import Decision
from lmxd.core.events import Event
from lmxd.core.orders import DrainRequested, PolicyChanged, ResidentsChanged
from lmxd.core.rules import Resident
from lmxd.core.words import DeviceReading
from lmxd.daemon.answering import audit
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.administration import Administration
from lmxd.daemon.answering.answers import Answers
from lmxd.daemon.answering.asks import Asks
from lmxd.daemon.answering.gateways import TellingGateways
from lmxd.daemon.answering.growing import Moving
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.holding import Holding
from lmxd.daemon.answering.inspection import Inspection
from lmxd.daemon.answering.journal import Journal
from lmxd.daemon.answering.keeping_alive import KeepingAlive
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.answering.metrics import Metrics
from lmxd.daemon.answering.models import ModelCalls
from lmxd.daemon.answering.requests import Requests
from lmxd.daemon.answering.service import Service, calls
from lmxd.daemon.answering.shelving import Shelving
from lmxd.daemon.engine_watch import EngineWatch
from lmxd.daemon.keeping.arrivals import Arrivals
from lmxd.daemon.keeping.means import Means
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.keeping.records import Records
from lmxd.daemon.keeping.restoring import Restoring
from lmxd.daemon.launching.context_watch import ContextWatch
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.launching.read_ahead import ReadAhead
from lmxd.daemon.learning.learning import Learning
from lmxd.daemon.loop import Loop
from lmxd.daemon.measuring import Measuring
from lmxd.daemon.places import Places
from lmxd.daemon.present import Present
from lmxd.daemon.pulse import Pulse
from lmxd.daemon.rules import policy_of, unknown_keys, unknown_users
from lmxd.daemon.served_directories import ServedDirectories
from lmxd.devices.driver_calls import DriverCalls
from lmxd.devices.measurement import DeviceKind, Probe
from lmxd.devices.probes import open_probes
from lmxd.devices.roots import Roots
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc.administrators import Reloaded
from lmxd.rpc.estimates import ForgetParams
from lmxd.rpc.server import Listener

log = logging.getLogger(__name__)

_LAST_WRITES = 5.0
"""Seconds that a slow disk has at the end."""
_DIVIDED_ANEW = 4
"""For how many of those in front of the queue layers are divided anew by each look at several GPUs, or GPU and RAM."""


class Daemon:
    """All parts of one running lmxd, but its sockets and signals."""

    def __init__(self, config: Config, config_path: Path, where: Places, nvml: Any, roots: Roots = Roots()) -> None:
        self.config_path = config_path
        self.where = where
        self._nvml = nvml
        self._roots = roots
        self.admission = Admission()
        self.present = Present(self._catalog(config), roots)
        self.served = ServedDirectories(self.present)
        self.access = Access(shared=where.shared)
        state = self.admission.state
        self.journal = Journal(state.lives, lambda: state.ledger.called)
        self.arrivals = Arrivals()
        self.learning = Learning(where.state, self.present)
        self.read_ahead = ReadAhead()
        self.pulse = Pulse()
        self.outbox = Outbox(self._perform)
        self.on_change: Callable[[], None] = lambda: None
        self._build()
        self.engine = EngineWatch(
            self.present,
            where.state / "dry-runs",
            lambda: self.learning.observations.learned,
            lambda: self.performer.startup.account,
        )
        self._calls = DriverCalls()
        self._adopt(config, open_probes(config.gpu.refs, nvml, roots, calls=self._calls, ram=config.uses_ram))

    def _build(self) -> None:
        """Build the parts that report events, and the loop that takes them in."""
        state, present = self.admission.state, self.present
        self.means = Means(state.expectations, self.outbox)
        self.records = Records(state, self.outbox, self.arrivals, self.means, lambda: self.performer)
        self.loop = Loop(
            self.admission, self.outbox, self.records.changes, lambda x: self.answers.decided(x), self._heard
        )
        handle = self.loop.handle
        contexts = ContextWatch(state, handle, lambda *x: self.asks.shrunk(*x), self.learning.conversations.used)
        self.performer = Performer(handle, self.records, state, present, self.where, contexts)
        self.launches = self.performer.launches
        self.measuring = Measuring(state, present, self.performer.pids, handle, self._seen)
        self.answers = Answers(state, self.access, present, self.performer, lambda: self.listener.connections)
        self.performer.shelf.gateways = TellingGateways(state, self.answers.reusing, lambda: self.listener.connections)
        self.health = Health(state, self.outbox, self.where.state, lambda: self.measuring.watcher.hanging, self.pulse)
        self.asks = Asks(state, present, self.answers.waiting, self.measuring.look, handle)
        self.service = self._service()
        self.listener = Listener(self.service)
        self.metrics = Metrics(state)

    def _service(self) -> Service:
        """Build the part that answers calls."""
        state, access, present, handle = self.admission.state, self.access, self.present, self.loop.handle
        leasing = Leasing(state, self.answers, self.arrivals, access, handle)
        table = calls(
            Requests(leasing, self.asks, present, access, self.health, self.admission, self.journal),
            leasing,
            Holding(state, leasing, self.performer.holds, present, self.health, self.measuring.look, access),
            Administration(state, present, handle, self.measuring.look, self.reload, self._forget),
            Inspection(state, access, present, self.performer, self.answers, self.health, self.measuring.look),
            ModelCalls(state, present, self.asks, self.learning, self.served),
            KeepingAlive(state, access, handle),
            Moving(leasing, self.asks, self.answers, self.performer, self.health, state, handle),
            Shelving(leasing, self.performer.shelf, state),
        )
        return Service(table, state, access, self.answers, self.served, self.outbox, handle)

    def _catalog(self, config: Config) -> Catalog:
        """A catalog of a configuration. Who serves one user alone opens that user's files; root's are never meant."""
        alone = not self.where.shared and os.geteuid() != 0
        return Catalog(config, os.geteuid() if alone else None)

    @property
    def catalog(self) -> Catalog:
        """The catalog of the configuration in force."""
        return self.present.catalog

    def _adopt(self, config: Config, probes: Sequence[Probe]) -> None:
        """Make a configuration the one in force. LmxdError, and nothing is changed, if its engine.user cannot be."""
        account = self.performer.startup.account = engine_account(config.engine.user, shared=self.where.shared)
        if account is not None:
            self.access.engines.add(account.uid)
        self.present.adopt(self._catalog(config), account)
        self.served.adopt(config)
        self.measuring.watch(probes)
        self.learning.tell(self.catalog)
        self.present.warnings = [*config.warnings, *unknown_users(config), *account_warnings(account), *gaps()]
        self.loop.handle(PolicyChanged(at=time.monotonic(), policy=policy_of(config)))

    async def begin(self) -> None:
        """Learn what there is: devices, engine, models. Warnings are kept for ``status``."""
        await self.engine.find()
        await self.measuring.look()
        await asyncio.to_thread(self.present.find_usable)
        await self.served.look()
        if self.outbox.writer is None:
            restoring = Restoring(
                self.records, self.outbox, self.performer, self.where, self.measuring.look, self.loop.handle
            )
            found = await restoring.restore()
            self.access.engines |= found.users
            self.answers.restore(found.saved.leases)
            self.present.warnings += found.warnings
        gpus = self.present.layout.of_kind(DeviceKind.GPU)
        self.present.warnings += await asyncio.to_thread(unknown_keys, self.catalog.config)
        self.present.warnings += await asyncio.to_thread(self.catalog.warnings, gpus)
        await self._tell_residents()
        for warning in (*self.present.warnings, *self.present.missing(), *self.catalog.warnings_of_engines()):
            log.warning("%s", warning)

    async def _tell_residents(self) -> None:
        """Tell the core what is to run whether somebody asks or not; not before it knows what runs already."""
        if self.outbox.writer is None:
            return
        residents = []
        for name, profile in self.catalog.config.models.items():
            if profile.keep or profile.preload:
                try:
                    ask = self.asks.ask(await self.asks.warm(name, Size(bounded=True)))
                except LmxdError:
                    continue  # it is among the warnings
                residents.append(Resident(ask=ask, keep=profile.keep, preload=profile.preload))
        self.loop.handle(ResidentsChanged(at=time.monotonic(), residents=tuple(residents)))

    async def _tell_usable(self) -> None:
        """Find out whether the engines can use the devices that there are now, and say so if it cannot."""
        before = set(self.catalog.warnings_of_engines())
        await self.engine.find(self.present.missing_engines)  # they may have lacked the driver that is there now
        await asyncio.to_thread(self.present.find_usable)
        for warning in self.catalog.warnings_of_engines():
            if warning not in before:
                log.warning("%s", warning)

    def learn(self) -> None:
        """Let what was observed count from now on."""
        self.present.learn(self.learning.observations.learned)

    def _forget(self, params: ForgetParams) -> int:
        """Forget observations; returns how many."""
        count = self.learning.forget(params.model, params.card, self.catalog)
        self.learning.tell(self.catalog)
        self.learn()
        return count

    async def reload(self) -> Reloaded:
        """Read the configuration again. ConfigError leaves everything as it was."""
        config = await asyncio.to_thread(load, self.config_path)
        hit("reloading")
        probes = await asyncio.to_thread(
            open_probes, config.gpu.refs, self._nvml, self._roots, calls=self._calls, ram=config.uses_ram
        )
        metrics_before = self.catalog.config.metrics
        self.access.refresh()
        self._adopt(config, probes)
        if config.metrics != metrics_before:
            self.present.warnings.append("metrics.listen takes effect when lmxd is restarted")
        await self.begin()
        self.asks.renew()
        log.info("configuration reloaded from %s", self.config_path)
        return Reloaded(path=str(self.config_path), warnings=self.present.all_warnings())

    def _perform(self, decision: Decision) -> None:
        self.performer.perform(decision)
        try:
            self.answers.tell(decision)
        finally:
            asyncio.get_running_loop().call_soon(self._note, decision)  # when those who wait have their answers

    def _note(self, decision: Decision) -> None:
        audit.decided(decision, self.service.acts)
        self.journal.note(decision)
        self.metrics.observe(decision)
        self.learning.observe(decision)

    def _heard(self, event: Event) -> None:
        self.means.write_soon()
        audit.heard(event, self.service.acts)
        self.journal.heard(event)
        self.measuring.heard(event)
        self.on_change()

    async def _seen(self, begun: float, readings: Sequence[DeviceReading], changed: bool) -> None:
        """Hand a look at the devices to the parts that learn from it, and to those that wait for one."""
        if await self.engine.notice():
            self.asks.renew()
        state, launches, catalog = self.admission.state, self.launches, self.present.catalog
        self.learning.see(begun, readings, launches, catalog)
        launches.loading.see(begun, readings)
        self.read_ahead.look(state, launches, catalog)
        self.learn()
        self.answers.tell_loading()
        if changed:
            await self._tell_usable()
            self.asks.renew()
            await self._tell_residents()
        elif len(self.present.layout.of_kind(DeviceKind.GPU)) > 1 or catalog.config.uses_ram:
            self.asks.divide(_DIVIDED_ANEW)

    # the end

    async def drain(self) -> None:
        """End everything, and return when it has ended."""
        self.loop.handle(DrainRequested(at=time.monotonic(), now=True))
        gone = asyncio.get_running_loop().create_task(self.launches.all_gone())
        while not (await asyncio.wait((gone,), timeout=_LAST_WRITES))[0]:
            if self.health.unwritable:
                log.error("the ledger cannot be written: everything ends without it")
                self.outbox.abandon()
        await self.leave()

    async def leave(self) -> None:
        """Stop looking after what runs; it goes on, and whoever starts lmxd again finds it as it is."""
        self.read_ahead.want(())
        self.means.write()
        self.learning.contexts.write()
        self.service.acts.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                await self.outbox.settled()
        if self.outbox.writer is not None:
            await self.outbox.writer.close()
