"""The program nats-server, as a child process."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.files import read_text

log = logging.getLogger(__name__)
_END: Final = 5.0
"""Seconds in which it ends by itself. Clients go to another server, or come again."""
_PAUSE: Final = 1.0
"""Seconds before one that ended by itself is started again."""


def program() -> str:
    """Its path: beside this Python, as its wheel installs it, or in PATH. LmxdError ``engine_missing``."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise LmxdError("engine_missing", "there is no nats-server", "pip install 'lmxd[fleet]', or install it")
    return found


class NatsServer:
    """Keeps one running with a configuration that is written anew when it changes."""

    def __init__(self, directory: Path, pause: float = _PAUSE, patience: float = _END) -> None:
        """``directory``: for its configuration. ``patience``: seconds in which it ends by itself."""
        self._program, self._pause, self._patience = program(), pause, patience
        self._file, self._pid = directory / "nats.conf", directory / "nats.pid"
        self._child: asyncio.subprocess.Process | None = None
        self._configuration = ""
        self._restarts = False
        """It has been told to end, and is started again."""

    async def keep(self, configuration: Callable[[], str]) -> None:
        """Run it until this is cancelled; then it ends. ``configuration``: asked for at each start.

        LmxdError ``config`` if it ends by itself at once, the first time.
        """
        self._end_orphan()
        try:
            await self._start(configuration)
            assert self._child is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    status = await self._child.wait()
                if status >= 0 and not self._restarts:
                    raise LmxdError(
                        "config", f"nats-server ended at once with status {status}", "its own lines say why"
                    )
            while True:
                status = await self._child.wait()
                log.warning("nats-server ended with status %d; it is started again", status)
                await asyncio.sleep(self._pause)
                await self._start(configuration)
        finally:
            await self._end()

    def reload(self, configuration: str) -> bool:
        """Have it read another configuration, if it differs and it runs. Returns whether it does."""
        if configuration == self._configuration:
            return False
        self._write(configuration)
        return self._signal(signal.SIGHUP)

    def refresh(self) -> None:
        """Have it read the files that its configuration names again."""
        self._signal(signal.SIGHUP)

    def restart(self) -> None:
        """End it, for ``keep`` to start it again: for what cannot be reloaded. One that does not end is killed."""
        self._restarts = self._signal(signal.SIGTERM)
        if self._restarts and self._child is not None:
            asyncio.get_running_loop().call_later(self._patience, _kill, self._child)

    async def _start(self, configuration: Callable[[], str]) -> None:
        begun = configuration()
        self._write(begun)
        self._child = await asyncio.create_subprocess_exec(
            self._program, "-P", str(self._pid), "-c", str(self._file), stdin=asyncio.subprocess.DEVNULL
        )
        if configuration() != begun:  # nobody could be told of it meanwhile
            self.restart()

    def _end_orphan(self) -> None:
        """End the one of a broker that was killed: it has the port."""
        with suppress(OSError, ValueError):
            number = int(read_text(self._pid, 32))
            if str(self._file) not in read_text(Path(f"/proc/{number}/cmdline"), 4096):
                return
            with open(os.pidfd_open(number)) as its:
                for end in (signal.SIGTERM, signal.SIGKILL):
                    signal.pidfd_send_signal(its.fileno(), end)
                    if select.select([its], [], [], _END)[0]:
                        return

    def _write(self, configuration: str) -> None:
        fresh = self._file.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(configuration)
        fresh.replace(self._file)
        self._configuration = configuration

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.returncode is None

    def _signal(self, number: int) -> bool:
        if self._child is None or not self.runs:
            return False
        self._child.send_signal(number)
        return True

    async def _end(self) -> None:
        if self._child is None or not self.runs:
            return
        self._child.terminate()
        try:
            async with asyncio.timeout(self._patience):
                await self._child.wait()
        except TimeoutError:
            _kill(self._child)
            await self._child.wait()


def _kill(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        log.warning("nats-server does not end, and is killed")
        child.kill()
