"""Carries out StartInstance and StopInstance, and reports what became of them as events."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Final

from lmxd.core.events import ActivitySeen, Event, InstanceExited, InstanceReady, LoadBegun, LoadPostponed
from lmxd.core.words import DeviceId, Failure, InstanceId
from lmxd.daemon.launching import slumber
from lmxd.daemon.launching.belongings import forget
from lmxd.daemon.launching.context_watch import ContextWatch
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.launched import Launched, Start
from lmxd.daemon.launching.loading import Loading, PendingLoad
from lmxd.daemon.launching.postmortem import postmortem
from lmxd.daemon.launching.startup import Startup
from lmxd.engines.engine import Activity
from lmxd.failpoints import hit
from lmxd.failures import FailureCode
from lmxd.instances.cgroup import Groups
from lmxd.instances.logs import Log, log_path
from lmxd.instances.process import Process

log = logging.getLogger(__name__)

_SHARED: Final = 60.0
"""Seconds between two looks at what the processes of an instance share."""


class Launches:
    """All instances that have, or are about to have, a process."""

    def __init__(
        self, report: Callable[[Event], None], startup: Startup, log_dir: Path, groups: Groups, contexts: ContextWatch
    ) -> None:
        self._report = report
        self._startup = startup
        self._log_dir = log_dir
        self._contexts = contexts
        self.groups = groups
        self._launched: dict[InstanceId, Launched] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.loading = Loading()

    def start(self, launched: Launched, devices: Iterable[DeviceId], *, alone: bool = True) -> None:
        """Launch an instance. Reports InstanceReady when it serves, InstanceExited when it is gone.

        ``alone``: what it takes is not known, so nothing else loads on its devices while that grows.
        """
        self._launched[launched.instance] = launched
        turn = PendingLoad(devices=frozenset(devices), alone=alone, begin=launched.may_load.set)
        self.loading.gate.enter(launched.instance, turn)
        self._spawn(self._live(launched, self._load(launched)))

    def adopt(self, launched: Launched, wrong: Failure | None = None) -> None:
        """Go on with one that an earlier daemon started; or end it, if something is wrong with it."""
        self._launched[launched.instance] = launched
        self._spawn(self._live(launched, self._attend(launched, wrong)))

    def log_of(self, start: Start) -> Log:
        return Log(self._log_dir, start.instance, start.limits.log_cap)

    def stop(self, instance: InstanceId) -> None:
        """End an instance; its exit is then not a failure."""
        if not (launched := self._launched.get(instance)) or launched.stopping:
            return
        launched.stopping = True
        if launched.process is not None:
            self._spawn(self._end(launched, launched.process))
        else:
            self.loading.gate.leave(instance)
            launched.may_load.set()

    async def _end(self, launched: Launched, process: Process) -> None:
        """Save the prompt cache, if that is wanted; then tell the process to go."""
        if launched.prompts is not None and launched.endpoint is not None and launched.ready_at is not None:
            try:
                if (await door(launched)).own:
                    slots, log_cap = launched.plan.launch.slots, launched.start.limits.log_cap
                    await launched.prompts.save(launched.engine, launched.endpoint, slots, process.pid, log_cap)
            except Exception:
                log.exception("the prompt cache of %s was not saved", launched.instance)
        await process.end(launched.start.limits.stop_timeout)

    def check(self, instance: InstanceId) -> None:
        """Report what an instance is doing, as soon as it says so."""
        if launched := self._launched.get(instance):
            self._spawn(self._check(launched))

    def rest(self, instance: InstanceId, *, wake: bool) -> None:
        """Have an instance fall asleep, or wake. Reports InstanceSlept or InstanceReady, or SleepFailed."""
        launched = self._launched.get(instance)
        if launched is not None and not launched.stopping:
            self._spawn(self._rest(launched, slumber.wake if wake else slumber.fall_asleep))

    async def _rest(self, launched: Launched, turn: Callable[[Launched], Coroutine[None, None, Event]]) -> None:
        """One that is stopped meanwhile, or exits, is reported otherwise."""
        came = await turn(launched)
        if not launched.stopping and self._launched.get(launched.instance) is launched:
            self._report(came)

    def get(self, instance: InstanceId) -> Launched | None:
        return self._launched.get(instance)

    def pids(self) -> dict[InstanceId, int]:
        """The process of each instance that has one."""
        return {name: x.process.pid for name, x in self._launched.items() if x.process is not None}

    def waiting(self) -> list[Launched]:
        """The instances whose turn to load has not come, in order."""
        return [self._launched[instance] for instance in self.loading.gate.waiting]

    def log_path(self, instance: InstanceId) -> Path:
        return log_path(self._log_dir, instance)

    async def all_gone(self) -> None:
        """Returns when no instance has a process any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, launched: Launched, life: Coroutine[None, None, Failure | None]) -> None:
        """One instance to its end, which is reported whatever happens before."""
        short = asyncio.get_running_loop().create_task(launched.log.keep_short())
        try:
            failure = await life
        except Exception as error:
            log.exception("%s", launched.instance)
            failure = Failure(code=FailureCode.INTERNAL, message=f"lmxd failed at this instance: {error!r}")
        try:
            if launched.process is not None:
                await launched.process.end(launched.start.limits.stop_timeout)
            if launched.prompts is not None:
                await asyncio.to_thread(launched.prompts.keep, launched.plan.launch.slots)
            if launched.doorway is not None:
                launched.doorway.shut()
            await asyncio.to_thread(launched.log.trim)
            await asyncio.to_thread(forget, launched.plan.home, launched.instance)
        except Exception:
            log.exception("%s left something behind", launched.instance)
        finally:
            short.cancel()
        # In one step with the report: else a lease could be had of it between.
        self._launched.pop(launched.instance, None)
        hit("exited")
        self._report(InstanceExited(at=time.monotonic(), instance=launched.instance, failure=failure))
        hit("exit_recorded")

    async def _load(self, launched: Launched) -> Failure | None:
        """Follow a process from its start to its exit. None when it ended as told."""
        if not launched.may_load.is_set():
            self._report(LoadPostponed(at=time.monotonic(), instance=launched.instance))
            await launched.may_load.wait()
            self._report(LoadBegun(at=time.monotonic(), instance=launched.instance))
        launched.begun_at = time.monotonic()
        try:
            failure = await self._startup.bring_up(launched)
        finally:
            self.loading.gate.leave(launched.instance)
        if failure is not None or launched.process is None:
            return failure  # without a process, it was told to stop before its turn to load came
        if not launched.stopping:
            hit("loaded")
            launched.ready_at = time.monotonic()
            seconds = launched.ready_at - launched.begun_at
            self._report(InstanceReady(at=launched.ready_at, instance=launched.instance, loading=seconds))
            hit("ready_recorded")
        return await self._attend(launched)

    async def _attend(self, launched: Launched, wrong: Failure | None = None) -> Failure | None:
        """Follow an instance from readiness to its exit. None when it ended as told; ``wrong`` at once, if given."""
        if wrong is not None:
            return wrong
        assert launched.process is not None
        watch = asyncio.get_running_loop().create_task(self._watch(launched))
        try:
            status = await asyncio.shield(launched.process.exited)  # others wait for it, too
        finally:
            watch.cancel()
        return None if launched.stopping else launched.intruder or await postmortem(launched, status)

    async def _watch(self, launched: Launched) -> None:
        """Ask now and then what it is doing. A turn that fails is not the last."""
        looked = -math.inf
        while True:
            try:
                if launched.process is not None and time.monotonic() - looked >= _SHARED:
                    looked = time.monotonic()
                    await launched.process.look()
                await asyncio.sleep(launched.start.poll)
                await self._check(launched)
            except Exception:
                log.exception("%s could not be looked after", launched.instance)

    async def _check(self, launched: Launched) -> None:
        """An instance that cannot be asked is taken to be busy: nobody is cut off on a guess."""
        process = launched.process
        if launched.endpoint is None or process is None:
            return
        try:
            activity = await self._asked(launched, process)
        except Exception:
            log.exception("%s could not be asked what it does", launched.instance)
            activity = None
        if launched.endpoint is None or process.exited.done():
            return
        worked = activity is not None and activity.work != launched.work
        if activity is not None:
            launched.work, launched.prompted = activity.work, activity.prompted
            launched.pace.see(time.monotonic(), activity)
        busy = activity is None or activity.busy
        guessed = activity is not None and activity.guessed
        seen = ActivitySeen(at=time.monotonic(), instance=launched.instance, busy=busy, worked=worked, guessed=guessed)
        self._report(seen)
        await self._contexts.look(launched)

    async def _asked(self, launched: Launched, process: Process) -> Activity | None:
        """Its activity. One whose endpoint somebody else has is ended: its clients are to send nothing there.

        Raises OSError, and what an engine raises.
        """
        at = await door(launched)
        if launched.endpoint is None or process.exited.done():
            return None
        if at.intruder is not None:
            log.error("%s: %s", launched.instance, at.intruder.message)
            launched.intruder, launched.endpoint = at.intruder, None
            await process.end(launched.start.limits.stop_timeout)
            return None
        return await launched.engine.activity(launched.endpoint) if at.own else None

    def look(self) -> None:
        """Ask the instances how busy they are, for somebody who watches; each at most once a second."""
        for launched in self._launched.values():
            if launched.ready_at is not None and launched.pace.stale(time.monotonic()):
                self._spawn(self._check(launched))
