"""Carries out StartInstance and StopInstance, and reports what became of them as events."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from lmxd.core.events import ActivitySeen, Event, InstanceExited, InstanceReady
from lmxd.core.words import DeviceId, Failure, InstanceId
from lmxd.daemon.prompts import PromptCache
from lmxd.engines.engine import Command, Endpoint, Engine, Plan
from lmxd.errors import LmxdError
from lmxd.instances.logs import Log, head, tail
from lmxd.instances.ports import listening_port
from lmxd.instances.process import Process, tree

log = logging.getLogger(__name__)

_POLLS = (0.02, 0.05, 0.1, 0.25)
_LAST_WORDS = 20
_UMASK = 0o117
"""Files and sockets of an instance are for the daemon and its group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Seconds, and bytes of log."""

    load_timeout: float
    stop_timeout: float
    log_cap: int


@dataclass(kw_only=True, slots=True)
class Launched:
    """One instance as the daemon knows it."""

    plan: Plan
    engine: Engine
    limits: Limits
    log: Log
    poll: float
    locks: Sequence[asyncio.Lock]
    """Of the devices that it loads on."""
    prompts: PromptCache | None = None
    command: Command | None = None
    process: Process | None = None
    endpoint: Endpoint | None = None
    ready_at: float | None = None
    stopping: bool = False
    work: float = 0.0
    prompted: float = 0.0


class Launches:
    """All instances that have, or are about to have, a process."""

    def __init__(self, report: Callable[[Event], None], log_dir: Path) -> None:
        self._report = report
        self._log_dir = log_dir
        self._launched: dict[InstanceId, Launched] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._locks: dict[DeviceId, asyncio.Lock] = {}

    def start(
        self,
        plan: Plan,
        engine: Engine,
        limits: Limits,
        idle_timeout: float,
        devices: Iterable[DeviceId],
        prompts: PromptCache | None = None,
    ) -> None:
        """Launch an instance. Reports InstanceReady when it serves, InstanceExited when it is gone.

        On each device one loads at a time, so that what it takes is not mistaken for another's.
        """
        launched = Launched(
            plan=plan,
            engine=engine,
            limits=limits,
            log=Log(self._log_dir, plan.instance, limits.log_cap),
            poll=min(15.0, max(0.25, idle_timeout / 20)),
            locks=[self._locks.setdefault(device, asyncio.Lock()) for device in sorted(devices)],
            prompts=prompts,
        )
        self._launched[plan.instance] = launched
        self._spawn(self._live(launched))

    def stop(self, instance: InstanceId) -> None:
        """End an instance; its exit is then not a failure."""
        launched = self._launched.get(instance)
        if launched is None or launched.stopping:
            return
        launched.stopping = True
        if launched.process is not None:
            self._spawn(self._end(launched, launched.process))

    async def _end(self, launched: Launched, process: Process) -> None:
        """What it has in its prompt cache is kept, if that is wanted, before it is told to go."""
        if launched.prompts is not None and launched.endpoint is not None and launched.ready_at is not None:
            await launched.prompts.save(launched.engine, launched.endpoint, launched.plan.slots)
        await process.end(launched.limits.stop_timeout)

    def check(self, instance: InstanceId) -> None:
        """Report what an instance is doing, as soon as it says so."""
        if launched := self._launched.get(instance):
            self._spawn(self._check(launched))

    def get(self, instance: InstanceId) -> Launched | None:
        return self._launched.get(instance)

    def pids(self) -> dict[InstanceId, set[int]]:
        """The processes of each instance that has any."""
        return {name: tree(x.process.pid) for name, x in self._launched.items() if x.process is not None}

    def log_path(self, instance: InstanceId) -> Path:
        return self._log_dir / f"{instance}.log"

    async def all_gone(self) -> None:
        """Returns when no instance has a process any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, launched: Launched) -> None:
        """One instance from its start to its end, which is reported whatever happens in between."""
        try:
            async with AsyncExitStack() as loading:
                for lock in launched.locks:
                    await loading.enter_async_context(lock)
                failure = await self._bring_up(launched)
            failure = failure or await self._attend(launched)
        except Exception as error:
            log.exception("%s", launched.plan.instance)
            failure = Failure(code="internal", message=f"lmxd failed at this instance: {error!r}")
        if launched.process is not None:
            await launched.process.end(launched.limits.stop_timeout)
        self._forget(launched)
        self._report(InstanceExited(at=time.monotonic(), instance=launched.plan.instance, failure=failure))

    async def _attend(self, launched: Launched) -> Failure | None:
        """From readiness to exit. None when it ended as told."""
        if launched.process is None:
            return None  # it was told to stop before its turn to load came
        if not launched.stopping:
            launched.ready_at = time.monotonic()
            self._report(InstanceReady(at=launched.ready_at, instance=launched.plan.instance))
        watch = asyncio.get_running_loop().create_task(self._watch(launched))
        status = await launched.process.exited
        watch.cancel()
        return None if launched.stopping else self._failure(launched, status)

    async def _bring_up(self, launched: Launched) -> Failure | None:
        """Spawn and wait until it serves. None when it does, or when it was told to stop meanwhile."""
        if launched.stopping:
            return None
        try:
            launched.command = launched.engine.command(launched.plan)
            output = launched.log.open()
            try:
                launched.process = Process(launched.command.argv, launched.command.env, output, _UMASK)
            finally:
                os.close(output)
        except LmxdError as error:
            return Failure(code=error.code, message=str(error))
        except OSError as error:
            return Failure(code="spawn_failed", message=f"the engine could not be started: {error}")
        log.info("%s: pid %d: %s", launched.plan.instance, launched.process.pid, " ".join(launched.command.argv))
        if launched.stopping:
            await launched.process.end(launched.limits.stop_timeout)
        try:
            async with asyncio.timeout(launched.limits.load_timeout):
                await self._until_ready(launched, launched.process)
        except TimeoutError:
            message = f"the engine was not ready within {launched.limits.load_timeout:g} s"
            return Failure(code="load_timeout", message=message, log=self._last_words(launched))
        if launched.stopping:
            return None
        if launched.process.exited.done():
            return self._failure(launched, launched.process.exited.result())
        if wrong := launched.engine.misplaced(launched.plan, head(launched.log.path)):
            return Failure(code="misplaced", message=wrong, log=self._last_words(launched))
        if launched.prompts is not None and launched.endpoint is not None:
            await launched.prompts.restore(launched.engine, launched.endpoint, launched.plan.slots)
        return None

    async def _until_ready(self, launched: Launched, process: Process) -> None:
        """Returns when it serves, or when it has exited."""
        for poll in _pauses():
            asking = asyncio.get_running_loop().create_task(self._is_ready(launched, process))
            await asyncio.wait((asking, process.exited), return_when=asyncio.FIRST_COMPLETED)
            if process.exited.done():
                asking.cancel()
                return
            if asking.result():
                return
            if await process.exits_within(poll):
                return

    async def _is_ready(self, launched: Launched, process: Process) -> bool:
        if launched.endpoint is None:
            launched.endpoint = _endpoint(launched.command, process)
        return launched.endpoint is not None and await launched.engine.ready(launched.endpoint)

    async def _watch(self, launched: Launched) -> None:
        """Ask now and then what it is doing, and keep its log short."""
        while True:
            await asyncio.sleep(launched.poll)
            launched.log.trim()
            await self._check(launched)

    async def _check(self, launched: Launched) -> None:
        """An instance that does not answer is taken to be busy: nobody is cut off on a guess."""
        if launched.endpoint is None:
            return
        activity = await launched.engine.activity(launched.endpoint)
        worked = activity is not None and activity.work != launched.work
        if activity is not None:
            launched.work, launched.prompted = activity.work, activity.prompted
        busy = activity is None or activity.busy
        self._report(ActivitySeen(at=time.monotonic(), instance=launched.plan.instance, busy=busy, worked=worked))

    def _failure(self, launched: Launched, status: int) -> Failure:
        lines = head(launched.log.path) if launched.endpoint is None else tail(launched.log.path, 200)
        found = launched.engine.diagnose(status, lines)
        return Failure(code=found.code, message=found.message, log=self._last_words(launched))

    def _last_words(self, launched: Launched) -> tuple[str, ...]:
        return tuple(tail(launched.log.path, _LAST_WORDS))

    def _forget(self, launched: Launched) -> None:
        self._launched.pop(launched.plan.instance, None)
        if launched.command is not None:
            launched.command.key_file.unlink(missing_ok=True)
            if launched.command.socket is not None:
                launched.command.socket.unlink(missing_ok=True)


def _pauses() -> Iterator[float]:
    """Between looks at a starting instance: short at first, for a small model is ready at once."""
    yield from _POLLS
    while True:
        yield _POLLS[-1]


def _endpoint(command: Command | None, process: Process) -> Endpoint | None:
    """Where it listens, once it does."""
    assert command is not None
    if command.port is not None:
        return Endpoint(url=f"http://127.0.0.1:{command.port}", key=command.key)
    if command.socket is not None:
        return (
            Endpoint(url="http://localhost", key=command.key, socket=command.socket)
            if command.socket.exists()
            else None
        )
    port = listening_port(tree(process.pid))
    return Endpoint(url=f"http://127.0.0.1:{port}", key=command.key) if port else None
