"""Carries out what the core decides about instances: llama-servers, other engines, and holds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from lmxd.config.section import GIB
from lmxd.core import decisions as d
from lmxd.core import events as e
from lmxd.core.words import Failure, InstanceId
from lmxd.daemon.holds import Holds
from lmxd.daemon.launches import Launches, Limits
from lmxd.daemon.prompts import PromptCache, PromptCaches
from lmxd.engines.command import CommandEngine
from lmxd.engines.engine import Engine, Plan
from lmxd.errors import LmxdError

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon


class Performer:
    """Whose outcome comes back as events."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.launches = Launches(daemon.handle, daemon.where.logs)
        self.holds = Holds(daemon.handle)

    def perform(self, decision: d.Decision) -> None:
        match decision:
            case d.StartInstance() if decision.ask.external:
                self.holds.begin(decision.instance)
            case d.StartInstance():
                self._start(decision)
            case d.StopInstance() if self._daemon.admission.state.instances[decision.instance].ask.external:
                self.holds.end(decision.instance)
            case d.StopInstance():
                self.launches.stop(decision.instance)
            case d.CheckActivity():
                self.launches.check(decision.instance)
            case d.GrantLease():
                launched = self.launches.get(decision.instance)
                if launched is not None and launched.prompts is not None:
                    launched.prompts.used_by(decision.owner.uid)

    def pids(self) -> dict[InstanceId, set[int]]:
        """The processes of each instance and hold that has any."""
        return self.launches.pids() | self.holds.pids()

    def pid(self, instance: InstanceId) -> int | None:
        launched = self.launches.get(instance)
        return launched.process.pid if launched and launched.process else self.holds.pid(instance)

    def _start(self, decision: d.StartInstance) -> None:
        daemon, ask = self._daemon, decision.ask
        own = daemon.catalog.config.engine
        limits = Limits(
            load_timeout=own.load_timeout, stop_timeout=own.stop_timeout, log_cap=int(own.log_max_mb * 2**20)
        )
        capacity = {device: a.capacity for device, a in daemon.admission.state.ledger.accounts.items()}
        try:
            plan = daemon.catalog.plan(decision.instance, ask, decision.option, daemon.where.home, capacity)
        except LmxdError as error:  # the file or the profile went away between the request and now
            failure = Failure(code=error.code, message=str(error))
            exited = e.InstanceExited(at=time.monotonic(), instance=decision.instance, failure=failure)
            asyncio.get_running_loop().call_soon(daemon.handle, exited)
            return
        engine: Engine = CommandEngine(plan.health) if plan.command else daemon.engine
        prompts, plan = self._prompts(decision.instance, plan)
        self.launches.start(plan, engine, limits, ask.idle_timeout, decision.option.demand, prompts)

    def _prompts(self, instance: InstanceId, plan: Plan) -> tuple[PromptCache | None, Plan]:
        """Its prompt cache, if its profile suspends and it is started for somebody."""
        catalog = self._daemon.catalog
        most = int(catalog.config.engine.prompt_cache_gb * GIB)
        tickets = self._daemon.admission.state.instances[instance].tickets
        if not most or not tickets or not catalog.profile(plan.profile).suspend:
            return None, plan
        uid = next(iter(tickets.values())).owner.uid
        cache = PromptCaches(self._daemon.where.state / "prompts", most).open(plan, catalog.build, uid)
        if cache is None:
            return None, plan
        return cache, replace(plan, prompts=cache.path)
