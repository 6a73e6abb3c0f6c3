"""One process that is ours, leader of its own session, watched through a pidfd: a child, or one that was adopted.

The pidfd becomes readable when the process has exited, under any event loop and whoever its parent is;
no SIGCHLD handler is needed, and no other child is ever reaped by accident.
"""

from __future__ import annotations

import asyncio
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

_WHOLE_GROUP: Final = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9: no pid can be anybody else's by then."""
_STATUS_POLLS: Final = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Seconds before each question for an exit status, until the process's parent has taken note."""


class Process:
    """One process of ours, a child or an adopted one, watched through its pidfd.

    ``exited`` resolves to its status: the exit code, minus the signal that ended it, or None if nobody knows. ``born``
    is the clock tick of its start, which tells it from any later one of the same pid.
    """

    def __init__(
        self, pid: int, pidfd: int, born: int, group: ControlGroup | None, child: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.pid = pid
        self.born = born
        self.group = group
        self._pidfd = pidfd
        self._child = child
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = self._loop.create_future()
        self.out_of_memory = False
        """The kernel ended it, or part of it, for the bound of its group."""
        self._loop.add_reader(pidfd, self._gone)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        output: int,
        umask: int,
        group: ControlGroup | None = None,
        account: SystemUser | None = None,
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
            umask=umask,
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
        return cls(child.pid, pidfd, proc.born(child.pid) or 0, group, child)

    @classmethod
    def adopt(cls, pid: int, born: int, group: ControlGroup | None = None) -> Process | None:
        """One that an earlier daemon had started; None if it is not there any more."""
        pidfd = proc.watch(pid, born)
        return None if pidfd is None else cls(pid, pidfd, born, group)

    def let_go(self) -> None:
        """Watch it no longer. For one that turned out not to be ours: it is not touched."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if self._child is not None:
            self._reap(self._child)
        else:
            self._ask_status(0)

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        """End the rest of a zombie's group while its pid cannot be anybody else's, then let it go."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None
        status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        child.returncode = status
        self._finish(status)

    def _ask_status(self, attempt: int) -> None:
        """The kernel has it only once the process's parent has taken note, which may take a moment."""
        status = exits.status(self._pidfd)
        if status is None and proc.born(self.pid) == self.born:
            status = proc.exit_status(self.pid)
        if status is None and attempt < len(_STATUS_POLLS):
            self._loop.call_later(_STATUS_POLLS[attempt], self._ask_status, attempt + 1)
            return
        for pid in proc.session(self.pid):  # it may be a zombie yet, or its pid free: nothing is killed by group
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._finish(status)

    def _finish(self, status: int | None) -> None:
        if self.group is not None:
            self.out_of_memory = self.group.oom_kills() > 0
            self.group.end()
        os.close(self._pidfd)
        self.exited.set_result(status)

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

    async def end(self, timeout: float) -> None:
        """SIGTERM; the same again half way, since llama-server loses one that comes as it starts to listen; SIGKILL.

        Processes that have left the session go with its control group, where there is one.
        """
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
