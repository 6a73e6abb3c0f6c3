"""One process that is ours, leader of its own session, watched through a pidfd: a child, or one that was adopted.

The pidfd becomes readable when the process has exited, under any event loop and whoever its parent is;
no SIGCHLD handler is needed, and no other child is ever reaped by accident.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.failpoints import hit
from lmxd.instances import exits, proc
from lmxd.instances.cgroup import ControlGroup
from lmxd.instances.rest import end_rest
from lmxd.instances.shared_memory import SharedMemory

log = logging.getLogger(__name__)

_WHOLE_GROUP: Final = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9: no pid can be anybody else's by then."""
_STATUS_POLLS: Final = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Seconds after each question for an exit status, until the process's parent has taken note."""
_UMASK: Final = 0o077
"""Files of an instance are its user's alone; holders of leases are let in to its socket one by one. Not 0177: engines
make directories, and enter them."""


class Process:
    """One process of ours, a child or an adopted one, watched through its pidfd.

    ``exited`` resolves, when the rest of its session is gone, too, to its status: the exit code, minus the signal that
    ended it, or None if nobody knows. ``born`` is the clock tick of its start, which tells it from any later one of the
    same pid. ``shared``: what its processes share in /dev/shm, which goes with them.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        born: int,
        *,
        group: ControlGroup | None = None,
        shared: SharedMemory | None = None,
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.pid = pid
        self.born = born
        self.group = group
        self.shared = SharedMemory() if shared is None else shared
        self._pidfd = pidfd
        self._child = child
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        self.out_of_memory = False
        """The kernel ended it, or part of it, for the bound of its group."""
        self._ending: asyncio.Task[None] | None = None
        self._loop.add_reader(pidfd, self._gone)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        output: int,
        group: ControlGroup | None = None,
        account: SystemUser | None = None,
        shared: SharedMemory | None = None,
    ) -> Process:
        """A new child, standard output and error going to the descriptor ``output``. Raises OSError.

        ``account``: the user that it runs as; None for ours.
        """
        hit("before_spawn")
        child = subprocess.Popen(  # noqa: S603 (argv is built from the configuration, no shell)
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=_UMASK,
            cwd="/",
            **({} if account is None else account.spawning()),
        )
        try:
            hit("after_spawn")
            proc.expose(child.pid)
            pidfd = os.pidfd_open(child.pid)
            if group is not None:
                group.add(child.pid)
        except OSError:
            child.kill()  # a child that cannot be watched must not run
            child.wait()
            raise
        return cls(child.pid, pidfd, proc.born(child.pid) or 0, group=group, shared=shared, child=child)

    @classmethod
    def adopt(
        cls, pid: int, born: int, group: ControlGroup | None = None, shared: SharedMemory | None = None
    ) -> Process | None:
        """One that an earlier daemon had started; None if it is not there any more."""
        pidfd = proc.watch(pid, born)
        return None if pidfd is None else cls(pid, pidfd, born, group=group, shared=shared)

    def let_go(self) -> None:
        """Watch it no longer. For one that turned out not to be ours: it is not touched."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ending = self._loop.create_task(self._follow())

    async def _follow(self) -> None:
        """End the rest of the session. A child is a zombie until then, so that its pid cannot be anybody else's."""
        status = await self._status() if self._child is None else None
        try:
            await end_rest(self.pid, self.shared)
        except Exception:
            log.exception("what pid %d has left running could not be ended", self.pid)
        if self._child is not None:
            status = self._reaped(self._child)
        if self.group is not None:
            self.out_of_memory = self.group.oom_kills() > 0
            self.group.end()
        try:
            if self.shared:
                await asyncio.to_thread(self.shared.remove)
        except Exception:
            log.exception("what pid %d has shared could not be removed", self.pid)
        os.close(self._pidfd)
        self.exited.set_result(status)

    def _reaped(self, child: subprocess.Popen[bytes]) -> int:
        """The status of a zombie, which it is no more from then on."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        child.returncode = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        return child.returncode

    async def _status(self) -> int | None:
        """The kernel has it only once the process's parent has taken note, which may take a moment."""
        for seconds in _STATUS_POLLS:
            status = exits.status(self._pidfd)
            if status is None and proc.born(self.pid) == self.born:
                status = proc.exit_status(self.pid)
            if status is not None:
                return status
            await asyncio.sleep(seconds)
        return exits.status(self._pidfd)

    def signal_group(self, number: int) -> None:
        """Signal the whole session, unless it has ended."""
        if self.exited.done() or exits.exited((self._pidfd,)):
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number, None, _WHOLE_GROUP)
        except ProcessLookupError:
            return
        except OSError:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def exits_within(self, seconds: float) -> bool:
        """Wait for its exit, but no longer than that."""
        await asyncio.wait((self.exited,), timeout=seconds)
        return self.exited.done()

    async def look(self) -> None:
        """Note what its processes share: of those that are killed all at once, nobody can ask it later."""
        if not self.exited.done():
            await asyncio.to_thread(lambda: self.shared.see((self.pid, *proc.session(self.pid))))

    async def end(self, timeout: float) -> None:
        """SIGTERM; the same again half way, since llama-server loses one that comes as it starts to listen; SIGKILL.

        Processes that have left the session go with its control group, where there is one.
        """
        await self.look()
        for number in (signal.SIGTERM, signal.SIGTERM):
            hit("before_sigterm")
            self.signal_group(number)
            hit("after_sigterm")
            if await self.exits_within(timeout / 2):
                return
        self.signal_group(signal.SIGKILL)
        if self.group is not None:
            self.group.kill()
        await asyncio.shield(self.exited)
