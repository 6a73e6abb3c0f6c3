"""Carries out what the core decides about instances: llama-servers, other engines, and holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.core.books.state import State
from lmxd.core.decisions import (
    CarryConversation,
    CheckActivity,
    Decision,
    EndLease,
    ForgetInstance,
    GrantLease,
    MoveLease,
    SaveConversation,
    SleepInstance,
    StartInstance,
    StopInstance,
    WakeInstance,
)
from lmxd.core.events import Event
from lmxd.core.words import DeviceId, InstanceId, User
from lmxd.daemon.launching.carrying import Carrying
from lmxd.daemon.launching.context_watch import ContextWatch
from lmxd.daemon.launching.descendants import Descendants
from lmxd.daemon.launching.doors import admit
from lmxd.daemon.launching.doorway import Doorway
from lmxd.daemon.launching.holds import AdoptedProcess, Holds
from lmxd.daemon.launching.kept import Kept
from lmxd.daemon.launching.launched import Launched, Limits, Start
from lmxd.daemon.launching.launches import Launches
from lmxd.daemon.launching.loading import usual
from lmxd.daemon.launching.prompts import PromptCache, PromptCaches
from lmxd.daemon.launching.shelf import Shelf
from lmxd.daemon.launching.startup import Notes, Startup
from lmxd.daemon.launching.undone import outcome
from lmxd.daemon.places import Places
from lmxd.daemon.present import Present
from lmxd.daemon.readings import tells_apart
from lmxd.devices.processes import cores
from lmxd.engines.engine import Engine, Plan
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.instances.cgroup import Groups
from lmxd.instances.process import Process

log = logging.getLogger(__name__)

_ALWAYS_ADMITTED: Final = frozenset((0,))
_LEARNED_WITHIN: Final = 2.0
"""Seconds between looks at an elastic instance: what its conversations need is learned by them."""
_AGAIN: Final = 1.0
"""Seconds until an instance that could not be told to end is told again."""


class Performer:
    """Carries out decisions about instances; each outcome comes back as an event."""

    def __init__(
        self,
        report: Callable[[Event], None],
        notes: Notes,
        state: State,
        present: Present,
        where: Places,
        contexts: ContextWatch,
    ) -> None:
        self._report = report
        self._state = state
        self._present = present
        self._where = where
        groups = Groups.delegated()
        self._descendants = Descendants()
        self.kept = Kept(where.state / "moves", state)
        self.startup = Startup(notes, groups, self._descendants, self.kept)
        self.launches = Launches(report, self.startup, where.logs, groups, contexts)
        self.holds = Holds(report, notes.note, self.launches.pids, self._descendants)
        self.shelf = Shelf(self.kept, self.launches.get, state)
        self.carrying = Carrying(self.kept, self.shelf, self.launches.get, state, report)

    def perform(self, decision: Decision) -> None:
        """The core hears of a failure as of any outcome. An end is tried again: its bytes are awaited."""
        try:
            self.carry_out(decision)
        except Exception as error:
            if not isinstance(error, LmxdError):  # which says that the file or the profile went away meanwhile
                log.exception("%s was not carried out", decision)
            loop = asyncio.get_running_loop()
            if isinstance(decision, StopInstance):
                loop.call_later(_AGAIN, self.perform, decision)
            elif event := outcome(decision, error, time.monotonic()):
                loop.call_soon(self._report, event)

    def carry_out(self, decision: Decision) -> None:
        """The same, but it may raise."""
        self.kept.decided(decision)
        self.shelf.decided(decision)
        self.carrying.ahead.decided(decision)
        match decision:
            case StartInstance() if decision.ask.external:
                self.holds.begin(decision.instance)
            case StartInstance():
                self._start(decision)
            case StopInstance() if self.launches.get(decision.instance):
                hit("stop_performed")
                self.launches.stop(decision.instance)
            case StopInstance():
                self.holds.end(decision.instance)
            case SleepInstance() | WakeInstance():
                self.launches.rest(decision.instance, wake=isinstance(decision, WakeInstance))
            case CheckActivity():
                self.launches.check(decision.instance)
            case ForgetInstance():
                hit("reclaimed")
            case EndLease() | GrantLease():
                self.admit_holders(decision.instance)
            case SaveConversation():
                self.carrying.save(decision)
            case CarryConversation():
                self.carrying.begin(decision)
            case MoveLease():
                hit("growth_moved")
                self.admit_holders(decision.instance)
                self.admit_holders(decision.before)

    def admit_holders(self, instance: InstanceId) -> None:
        """Let those connect who have a lease now, and no longer who had one."""
        launched, now = self.launches.get(instance), self._state.instances.get(instance)
        if launched is None or launched.endpoint is None or launched.endpoint.socket is None or now is None:
            return
        holders = frozenset(lease.owner.uid for lease in now.leases.values()) - _ALWAYS_ADMITTED
        if holders == launched.admitted:
            return
        launched.admitted = None
        try:
            admit(launched.endpoint.socket, holders)
            launched.admitted = holders
        except FileNotFoundError:
            pass  # its server is ending
        except OSError as error:
            log.warning("%s: its socket cannot be opened to its holders: %s", instance, error)

    async def pids(self) -> dict[InstanceId, set[int]]:
        """The processes of each instance and hold that has any, with their children."""
        return await self._descendants.of(self.launches.pids() | self.holds.pids())

    def launched(self, instance: InstanceId) -> Launched | None:
        """The launch of an instance, if lmxd started it."""
        return self.launches.get(instance)

    def process(self, instance: InstanceId) -> Process | AdoptedProcess | None:
        """The one it has, if it has one."""
        launched = self.launches.get(instance)
        return launched.process if launched else self.holds.adopted(instance)

    def pid(self, instance: InstanceId) -> int | None:
        process = self.process(instance)
        return process.pid if process else None

    def _start(self, decision: StartInstance) -> None:
        ask, config = decision.ask, self._present.catalog.config
        resolved = self._present.catalog.resolve(ask.profile, Size.of(ask))
        accounts = self._state.ledger.accounts.items()
        capacity, used = {device: a.capacity for device, a in accounts}, {device: a.used for device, a in accounts}
        plan = resolved.plan(decision, self._where.home, capacity, used)
        prompts = self._prompts(plan, ask.private_to) if config.suspends(resolved.profile) else None
        doorway = prompts.doorway if prompts else self._doorway(plan, resolved) if ask.elastic else None
        if doorway is not None:
            plan = replace(plan, prompts=doorway.path, carried=prompts is None)
        start = Start(
            plan=plan,
            limits=_limits(config, resolved),
            poll=min(_LEARNED_WITHIN if ask.elastic else 15.0, max(0.25, ask.idle_timeout / 20)),
            kept=None if prompts is None else prompts.path,
        )
        self.launches.loading.gate.most = config.engine.parallel_loads or usual(cores())
        devices = decision.option.demand
        launched = Launched(
            start=start,
            engine=self.engine(plan),
            log=self.launches.log_of(start),
            prompts=prompts,
            doorway=doorway if plan.carried else None,
            inherits=decision.carries,
        )
        self.launches.start(launched, devices, alone=not self._is_known(resolved, plan, devices))

    def _is_known(self, resolved: Resolved, plan: Plan, devices: Iterable[DeviceId]) -> bool:
        """Returns whether its bytes are known, and will be told from those of other loads."""
        catalog, state, measured = self._present.catalog, self._state, self._present.measured
        if not all(tells_apart(state, measured, x) for x in devices):
            return False
        gpus, engine, file = [DeviceId(gpu) for gpu in plan.gpu_ids], catalog.installed(plan.engine), plan.estimated
        cards = [engine.card(gpu) for gpu in gpus]
        try:
            if file is None:  # of vLLM they are when its rest was seen once: all else is exact, or it is told
                rest = resolved.sizing.rest(plan.launch, gpus)
                return rest is not None and catalog.rests.get(rest.key) is not None
            return engine.estimator.estimate(file, plan.launch, cards, plan.companions).known
        except LmxdError:
            return False  # only its user knows

    def engine(self, plan: Plan) -> Engine:
        """The engine that a plan is for."""
        return self._present.engine(plan.engine, plan.kind)

    def prompt_caches(self) -> PromptCaches:
        most = int(self._present.catalog.config.engine.prompt_cache_gb * GIB)
        return PromptCaches(self._where.state / "prompts", most, self.startup.account)

    def _prompts(self, plan: Plan, user: User | None) -> PromptCache | None:
        """The prompt cache of an instance, if it serves one user from its start to its end."""
        build = self._present.catalog.installed(plan.engine).build
        return None if user is None else self.prompt_caches().open(plan, build, user)

    def _doorway(self, plan: Plan, resolved: Resolved) -> Doorway | None:
        """The doorway for conversations of an instance, open for it to start; None if none can be carried."""
        if resolved.not_carried is not None:
            return None
        doorway = self.prompt_caches().doorway(plan.instance)
        try:
            doorway.open()
            doorway.admit()
        except OSError as error:
            log.warning("%s: its conversations cannot be carried: %s", plan.instance, error)
            return None
        return doorway


def _limits(config: Config, resolved: Resolved) -> Limits:
    memory = resolved.profile.memory_max_gb
    return Limits(
        load_timeout=resolved.engine.load_timeout,
        stop_timeout=resolved.engine.stop_timeout,
        log_cap=int(config.engine.log_max_mb * 2**20),
        memory_max=None if memory is None else int(memory * GIB),
    )
