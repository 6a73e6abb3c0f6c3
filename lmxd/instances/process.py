"""One child process, leader of its own session, watched through a pidfd.

The pidfd becomes readable when the process has exited, under any event loop; no SIGCHLD
handler is needed, and no other child is ever reaped by accident.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


class Process:
    """A running child. ``exited`` resolves to its status: the exit code, or minus the signal that ended it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], output: int, umask: int) -> None:
        """Spawn it, standard output and error going to the descriptor ``output``. Raises OSError."""
        self._popen = subprocess.Popen(  # noqa: S603 (argv is built from the configuration, no shell)
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=umask,
            cwd="/",
        )
        self.pid = self._popen.pid
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._popen.kill()  # a child that cannot be watched must not run
            self._popen.wait()
            raise
        self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        """It is a zombie: end what is left of its group while its pid cannot be anybody else's, then let it go."""
        self._loop.remove_reader(self._pidfd)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        assert result is not None
        status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self._popen.returncode = status
        self.exited.set_result(status)

    def signal_group(self, number: int) -> None:
        """Signal the whole session, unless it has ended."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def exits_within(self, seconds: float) -> bool:
        """Wait for its exit, but no longer than that."""
        await asyncio.wait((self.exited,), timeout=seconds)
        return self.exited.done()

    async def end(self, timeout: float) -> None:
        """SIGTERM; the same again half way, since llama-server loses one that comes as it starts to listen; SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGTERM):
            self.signal_group(number)
            if await self.exits_within(timeout / 2):
                return
        self.signal_group(signal.SIGKILL)
        await asyncio.shield(self.exited)


def tree(pid: int) -> set[int]:
    """A process and all its living descendants."""
    found, rest = set(), [pid]
    while rest:
        pid = rest.pop()
        if pid in found:
            continue
        found.add(pid)
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                    rest += [int(child) for child in file.read().split()]
    return found
