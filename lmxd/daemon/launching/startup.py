"""The start of an instance: its process, followed until it serves."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, repeat
from typing import Final, Protocol

from lmxd.accounts import SystemUser
from lmxd.core.words import Failure, InstanceId
from lmxd.daemon.launching.belongings import make_temporary
from lmxd.daemon.launching.descendants import Descendants
from lmxd.daemon.launching.doors import admit, door
from lmxd.daemon.launching.inheriting import inherit
from lmxd.daemon.launching.kept import Kept
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.launching.ownership import hand_over
from lmxd.daemon.launching.postmortem import last_words, postmortem
from lmxd.engines.engine import Endpoint
from lmxd.engines.launching import record_path, temporary_path
from lmxd.errors import LmxdError
from lmxd.failpoints import hit
from lmxd.failures import FailureCode
from lmxd.instances.cgroup import Groups
from lmxd.instances.logs import head
from lmxd.instances.ports import listening_port
from lmxd.instances.process import Process
from lmxd.instances.shared_memory import SharedMemory

log = logging.getLogger(__name__)

CERTIFICATE: Final = "LMXD_CERTIFICATE"
"""In the environment of every process of ours: its row of the ledger, as JSON."""
_POLLS = (0.02, 0.05, 0.1)
"""Seconds between looks at a starting instance: a small model is ready at once, and somebody waits for any."""
_AGAIN: Final[Mapping[str, int]] = {
    FailureCode.ENDPOINT_TAKEN: 2,
    FailureCode.ENDPOINT_IN_USE: 2,
    FailureCode.DISTURBED: 1,
}
"""How often a launch that failed so is made anew. Somebody may have taken a port by accident, who takes three does it
on purpose; and others may have freed memory while an engine measured it, but not whenever it does."""


class Notes(Protocol):
    """A writer of what becomes of instances."""

    def certificate(self, instance: InstanceId) -> str:
        """The text that a process carries in its environment, to be known by."""

    def note(self, instance: InstanceId) -> None:
        """Its process or its address is known by now."""


class Startup:
    """Starts the processes of instances."""

    def __init__(self, notes: Notes, groups: Groups, descendants: Descendants, kept: Kept) -> None:
        self._notes = notes
        self._descendants = descendants
        self._groups = groups
        self._kept = kept
        self.account: SystemUser | None = None
        """The user that engines run as; None for ours."""

    async def bring_up(self, launched: Launched) -> Failure | None:
        """Spawn and wait until it serves. None when it does, or when it was told to stop meanwhile."""
        failed: Counter[str] = Counter()
        while True:
            failure, process = await self._try(launched), launched.process
            if failure is None or launched.stopping or process is None:
                return failure
            failed[failure.code] += 1
            if failed[failure.code] > _AGAIN.get(failure.code, 0):
                return failure
            log.warning("%s: %s; it is started again", launched.instance, failure.message)
            await process.end(launched.start.limits.stop_timeout)
            launched.process = launched.endpoint = launched.intruder = None

    async def _try(self, launched: Launched) -> Failure | None:
        if launched.stopping:
            return None
        limits = launched.start.limits
        try:
            launched.process = await self._fork(launched)
        except LmxdError as error:
            return Failure(code=error.code, message=str(error))
        except OSError as error:
            return Failure(code=FailureCode.SPAWN_FAILED, message=f"the engine could not be started: {error}")
        if launched.process is None:
            return None
        self._notes.note(launched.instance)
        hit("while_loading")
        if launched.stopping:
            await launched.process.end(limits.stop_timeout)
        try:
            async with asyncio.timeout(limits.load_timeout):
                await self._until_ready(launched, launched.process)
        except TimeoutError:
            message = f"the engine was not ready within {limits.load_timeout:g} s"
            return Failure(code=FailureCode.LOAD_TIMEOUT, message=message, log=last_words(launched))
        if launched.stopping:
            return None
        if launched.process.exited.done():
            return (await door(launched)).intruder or await postmortem(launched, launched.process.exited.result())
        return launched.intruder or await self._settle(launched)

    async def _settle(self, launched: Launched) -> Failure | None:
        """Look whether it is where it was to be, and prepare it for its clients."""
        lines, engine = head(launched.log.path), launched.engine
        launched.buffers = await asyncio.to_thread(engine.buffers, launched.plan, lines)
        if wrong := await asyncio.to_thread(engine.misplaced, launched.plan, lines):
            return Failure(code=FailureCode.MISPLACED, message=wrong, log=last_words(launched))
        assert launched.endpoint is not None
        if launched.endpoint.socket is not None:
            admit(launched.endpoint.socket)
        if launched.prompts is not None:
            await launched.prompts.restore(launched.engine, launched.endpoint, launched.plan.launch.slots)
        await inherit(self._kept, launched)
        if launched.doorway is not None:
            launched.doorway.shut()
        return None

    async def _fork(self, launched: Launched) -> Process | None:
        """None if it was told to stop meanwhile: the engine's devices may have to be looked up first.

        Raises LmxdError and OSError.
        """
        hit("start_performed")
        name = launched.instance
        home = launched.plan.home
        command = await asyncio.to_thread(lambda: launched.engine.command(launched.plan))
        uid = None if self.account is None else self.account.uid
        launched.start, launched.key = replace(launched.start, address=command.address, uid=uid), command.key
        hit("key_written")
        if launched.stopping:
            return None
        env = dict(command.env) | {CERTIFICATE: self._notes.certificate(name)}
        make_temporary(home, name, self.account)
        if self.account is not None:
            hand_over(launched.start, self.account)
            env["HOME"] = self.account.home if self.account.has_home else str(temporary_path(home, name))
        group = self._groups.make(name, launched.start.limits.memory_max)
        output = launched.log.open()
        try:
            shared = SharedMemory(record_path(home, name))
            process = Process.spawn(command.argv, env, output, group, self.account, shared)
        finally:
            os.close(output)
        log.info("%s: pid %d: %s", name, process.pid, " ".join(command.argv))
        return process

    async def _until_ready(self, launched: Launched, process: Process) -> None:
        """Returns when it serves, when somebody else is where it is to be, or when it has exited."""
        for poll in chain(_POLLS, repeat(_POLLS[-1])):
            asking = asyncio.get_running_loop().create_task(self._is_ready(launched, process))
            try:
                await asyncio.wait((asking, process.exited), return_when=asyncio.FIRST_COMPLETED)
                if process.exited.done():
                    return
                serves = asking.result()
            finally:
                asking.cancel()  # also when its time to load is over
            if serves or launched.intruder or await process.exits_within(poll):
                return

    async def _is_ready(self, launched: Launched, process: Process) -> bool:
        if launched.endpoint is None:
            address = launched.start.address
            assert address is not None
            if address.socket is None and address.port is None:
                family = await self._descendants.of({launched.instance: process.pid})
                port = await asyncio.to_thread(listening_port, family[launched.instance])
                address = replace(address, port=port)
                launched.start = replace(launched.start, address=address)
            launched.endpoint = Endpoint.at(address, launched.key)
        if launched.endpoint is None:
            return False
        at = await door(launched)
        launched.intruder = at.intruder
        return at.own and await launched.engine.ready(launched.endpoint)
