"""The loop: one event at a time into the core, its decisions carried out before the next. The only writer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmxd.catalog.catalog import Catalog
from lmxd.config.file import load
from lmxd.config.schema import Config
from lmxd.core import decisions as d
from lmxd.core import events as e
from lmxd.core.admission import Admission
from lmxd.core.policy.residents import is_lacking
from lmxd.core.rules import Resident
from lmxd.core.words import Phase
from lmxd.daemon.answering import audit
from lmxd.daemon.answering.access import Access
from lmxd.daemon.answering.administration import Administration
from lmxd.daemon.answering.answers import Answers
from lmxd.daemon.answering.asks import Asks
from lmxd.daemon.answering.health import Health
from lmxd.daemon.answering.holding import Holding
from lmxd.daemon.answering.inspection import Inspection
from lmxd.daemon.answering.journal import Journal
from lmxd.daemon.answering.leasing import Leasing
from lmxd.daemon.answering.metrics import Metrics
from lmxd.daemon.answering.models import ModelCalls
from lmxd.daemon.answering.requests import Requests
from lmxd.daemon.answering.service import Service, calls
from lmxd.daemon.keeping.arrivals import Arrivals
from lmxd.daemon.keeping.means import Means
from lmxd.daemon.keeping.outbox import Outbox
from lmxd.daemon.keeping.records import Records
from lmxd.daemon.keeping.restoring import Restoring
from lmxd.daemon.launching.performer import Performer
from lmxd.daemon.launching.read_ahead import ReadAhead
from lmxd.daemon.learning.observations import Observations
from lmxd.daemon.learning.observer import Observer
from lmxd.daemon.learning.peaks import Peaks
from lmxd.daemon.places import Places
from lmxd.daemon.present import Present
from lmxd.daemon.readings import cards, device_readings, kinds, open_probes
from lmxd.daemon.rules import policy_of, unknown_users
from lmxd.devices.measurement import Kind
from lmxd.devices.watcher import Watcher
from lmxd.engines.llama_cpp.server import LlamaServer
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.rpc import estimates as es
from lmxd.rpc import messages as m
from lmxd.rpc.server import Listener

log = logging.getLogger(__name__)

_RECLAIMING_PERIOD = 0.1
_WAITING_PERIOD = 0.25
_BUSY_PERIOD = 1.0
_LAST_WRITES = 5.0
"""Seconds that a slow disk has at the end."""
_SPLIT_ANEW = 4
"""For how many of those in front of the queue layers are divided anew by each look at several GPUs."""


class Daemon:
    """Everything of one running lmxd, but its sockets and signals."""

    def __init__(self, config: Config, config_path: Path, where: Places, nvml: Any) -> None:
        self.config_path = config_path
        self.where = where
        self._nvml = nvml
        self.admission = Admission()
        state = self.admission.state
        self.present = Present(Catalog(config), LlamaServer(config.engine.path))
        self.outbox = Outbox(self._perform)
        self.arrivals = Arrivals()
        self.means = Means(state.expectations, self.outbox)
        self.records = Records(state, self.outbox, self.arrivals, self.means, lambda: self.performer)
        self.performer = Performer(self.handle, self.records, state, self.present, where)
        self.launches = self.performer.launches
        self.journal = Journal()
        self.access = Access(shared=where.shared)
        self.health = Health(state, self.outbox, where.state, lambda: self.watcher.hanging)
        self.answers = Answers(state, self.access, self.present, self.performer, lambda: self.listener.connections)
        self.asks = Asks(state, self.present, self.answers.waiting, self.measure, self.handle)
        self.peaks = Peaks(where.state / "peaks.json")
        self.observations = Observations(where.state / "observations.json")
        self.observer = Observer(self.observations)
        self.read_ahead = ReadAhead()
        self.listener = Listener(self._service())
        self.metrics = Metrics(state)
        self.on_change: Callable[[], None] = lambda: None
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._handling = False
        self._adopt(config, *open_probes(config.gpu, nvml))

    def _service(self) -> Service:
        """Who answers calls."""
        state, access, present, handle = self.admission.state, self.access, self.present, self.handle
        leasing = Leasing(state, self.answers, self.arrivals, access, handle)
        table = calls(
            Requests(leasing, self.asks, present, access, self.health, self.admission, self.journal),
            leasing,
            Holding(state, leasing, self.performer.holds, present, self.health, self.measure),
            Administration(state, access, present, handle, self.measure, self.reload, self._forget),
            Inspection(state, access, present, self.performer, self.answers, self.health, self.measure),
            ModelCalls(state, present, self.asks, self.observations),
        )
        return Service(table, state, access, self.answers, present, self.outbox, handle)

    @property
    def catalog(self) -> Catalog:
        """Of the configuration in force."""
        return self.present.catalog

    def _adopt(self, config: Config, probes: Sequence[Any], warnings: list[str]) -> None:
        """Make a configuration the one in force."""
        self.present.catalog = Catalog(config)
        self.present.engine = LlamaServer(config.engine.path)
        self.present.warnings = warnings
        self.watcher = Watcher(probes, time.monotonic)
        self.catalog.peaks = self.peaks.sizes
        self.present.warnings += [*config.warnings, *unknown_users(config)]
        self.handle(e.PolicyChanged(at=time.monotonic(), policy=policy_of(config)))

    async def begin(self) -> None:
        """Learn what there is: devices, engine, models. Warnings are kept for ``status``."""
        await asyncio.to_thread(self.present.find_engine, self.observations.learned, self.where.state / "dry-runs")
        await self.measure()
        if self.outbox.writer is None:
            restoring = Restoring(self.records, self.outbox, self.performer, self.where, self.measure, self.handle)
            found = await restoring.restore()
            self.answers.restore(found.saved.leases)
            self.present.warnings += found.warnings
        on_gpu = Kind.GPU in self.present.kinds.values()
        self.present.warnings += await asyncio.to_thread(self.catalog.warnings, on_gpu=on_gpu)
        await self._tell_residents()
        for warning in self.present.warnings:
            log.warning("%s", warning)

    async def _tell_residents(self) -> None:
        """Tell the core what is to run whether somebody asks or not; not before it knows what runs already."""
        if self.outbox.writer is None:
            return
        residents = []
        for name, profile in self.catalog.config.models.items():
            if profile.keep or profile.preload:
                await self.asks.warm(name)
                try:
                    ask = self.asks.ask(name)
                except LmxdError:
                    continue  # it is among the warnings
                residents.append(Resident(ask=ask, keep=profile.keep, preload=profile.preload))
        self.handle(e.ResidentsChanged(at=time.monotonic(), residents=tuple(residents)))

    def learn(self) -> None:
        """Let what was observed count from now on."""
        self.present.learn(self.observations.learned)

    def _forget(self, params: es.ForgetParams) -> int:
        """How many observations are forgotten."""
        count = self.observations.forget(
            lambda o: params.model in (None, o.model) and params.card in (None, o.card.name)
        )
        self.learn()
        return count

    async def reload(self) -> m.Reloaded:
        """Read the configuration again. ConfigError leaves everything as it was."""
        config = await asyncio.to_thread(load, self.config_path)
        hit("reloading")
        probes, warnings = await asyncio.to_thread(open_probes, config.gpu, self._nvml)
        if config.metrics != self.catalog.config.metrics:
            warnings.append("metrics.listen takes effect when lmxd is restarted")
        self.watcher.close()
        self.access.refresh()
        self._adopt(config, probes, warnings)
        await self.begin()
        self.asks.renew()
        log.info("configuration reloaded from %s", self.config_path)
        return m.Reloaded(path=str(self.config_path), warnings=self.present.warnings)

    # the loop

    def handle(self, event: e.Event) -> None:
        """Take in a fact; what the core decides is written down and carried out. Never awaits, never re-enters."""
        assert not self._handling, "a decision was carried out by reporting an event on the spot"
        self._handling = True
        try:
            touched, decisions = self.admission.handle(event)
            for decision in decisions:
                self.answers.decided(decision)
            self.outbox.put(self.records.changes(event, touched, decisions), decisions)
        finally:
            self._handling = False
        self._schedule()
        self.means.write_soon()
        waits = isinstance(event, e.LeaseRequested) and event.ticket in self.admission.state.tickets
        if waits or isinstance(event, (e.InstanceExited, e.InstanceReady)):
            self._wake.set()
        self.on_change()

    def _perform(self, decision: d.Decision) -> None:
        self.performer.perform(decision)
        try:
            self.answers.tell(decision)
        finally:
            asyncio.get_running_loop().call_soon(self._note, decision)  # when those who wait have their answers

    def _note(self, decision: d.Decision) -> None:
        audit.decided(decision)
        self.journal.note(decision)
        self.metrics.observe(decision)

    def _schedule(self) -> None:
        """See to it that time passes for the core when something of its is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.admission.next_deadline()
        if due is not None:
            later = asyncio.get_running_loop().call_later
            self._timer = later(
                max(0.0, due - time.monotonic()), lambda: self.handle(e.TimePassed(at=time.monotonic()))
            )

    # readings

    async def keep_measuring(self) -> None:
        """Measure as often as it matters: not at all while nothing runs and nobody waits."""
        while True:
            self._wake.clear()
            period = self._period()
            with suppress(TimeoutError):
                async with asyncio.timeout(period):  # not wait_for, which in 3.11 can swallow a cancellation
                    await self._wake.wait()
            await self.measure()

    def _period(self) -> float | None:
        state = self.admission.state
        if any(i.phase is Phase.RECLAIMING for i in state.instances.values()):
            return _RECLAIMING_PERIOD
        if len(state.queue) or any(i.tickets for i in state.instances.values()):
            return _WAITING_PERIOD
        return _BUSY_PERIOD if state.instances or is_lacking(state) else None

    async def measure(self) -> None:
        """One look at the devices, told to the core."""
        pids = self.performer.pids()
        look = await self.watcher.look({pid for mine in pids.values() for pid in mine})
        self.present.begun = look.begun
        self.present.measured = look.measurements
        readings = device_readings(look, self.catalog.config.gpu, pids, self.admission.state)
        before, self.present.kinds = self.present.kinds, kinds(look.measurements)
        self.catalog.cards = cards(look.measurements, self.catalog.build)
        self.handle(e.MemoryMeasured(at=time.monotonic(), begun=look.begun, readings=readings))
        self.observer.see(look.begun, readings, self.launches, self.catalog)
        self.peaks.see(readings, self.launches)
        self.launches.loading.see(look.begun, readings)
        self.read_ahead.look(self.admission.state, self.launches, self.catalog)
        self.learn()
        self.answers.tell_loading()
        if before != self.present.kinds:
            self.asks.renew()
            await self._tell_residents()
        elif len(self.catalog.cards) > 1:
            self.asks.renew(_SPLIT_ANEW)

    # the end

    async def drain(self) -> None:
        """End everything, and return when it has ended."""
        self.handle(e.DrainRequested(at=time.monotonic(), now=True))
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
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES):
                await self.outbox.settled()
        if self.outbox.writer is not None:
            await self.outbox.writer.close()
