"""The daemon and the gateway are started: by systemd, or as programs where there is none."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from lmxd.errors import LmxdError
from lmxd.own_units import own_units
from lmxd.setup.change import FileChange
from lmxd.systemd import systemctl

_UNITS: Final = ("lmxd.socket", "lmxd.service", "lmxd-gateway.service")
_PATIENCE: Final = 60.0
"""Seconds in which a program is to be ready."""


class Services(Protocol):
    """A way to start both."""

    end: str
    """The command that ends it all; empty if it is not known."""
    files: list[FileChange]
    """The files that are to be written for it."""

    def plan(self, *, both_run: bool) -> str:
        """A sentence about what will be done."""

    def start(self, *, daemon_runs: bool, gateway_runs: bool) -> None:
        """Start what does not run, for good, and have a gateway that runs read its keys again. LmxdError."""


def services(*, user: bool, state: Path) -> Services:
    """The way that this machine has. ``state``: the directory for logs where systemd does not keep them.

    LmxdError ``config`` if systemd runs, and the units are not installed.
    """
    if user and systemctl(["--user", "show-environment"]) is None:
        return Units(user=True)
    if not user and Path("/run/systemd/system").is_dir():
        return Units(user=False)
    return Programs(["--user"] if user else [], state)


class Units:
    """Units of systemd, the system's or the user's."""

    def __init__(self, *, user: bool) -> None:
        self._manager = ["--user"] if user else []
        self.files: list[FileChange] = []
        if systemctl([*self._manager, "cat", *_UNITS]) is not None:
            if not user:
                remedy = "sudo make install in its sources, or its package; or say --user"
                raise LmxdError("config", "the units of lmxd are not installed", remedy)
            self.files = [FileChange.of(path, text) for path, text in own_units(_UNITS).items()]
        # A model goes on when its daemon ends: without drain its memory would be nobody's to give back.
        self.end = f"{typed_here('lmxctl')} drain --now; {self._words('disable')}"

    def plan(self, *, both_run: bool) -> str:
        return self._words("enable")

    def _words(self, verb: str) -> str:
        return f"systemctl {' '.join([*self._manager, verb, '--now', *_UNITS])}"

    def start(self, *, daemon_runs: bool, gateway_runs: bool) -> None:
        self._do(["daemon-reload"])
        self._do(["enable", "--now", *_UNITS])
        if gateway_runs:
            self._do(["reload", "lmxd-gateway.service"])

    def _do(self, arguments: list[str]) -> None:
        if (problem := systemctl([*self._manager, *arguments])) is not None:
            words = " ".join(["systemctl", *self._manager, *arguments])
            remedy = f"journalctl {' '.join([*self._manager, '-e', '-u', 'lmxd', '-u', 'lmxd-gateway'])}"
            raise LmxdError("daemon_unavailable", f"{words}: {problem}", remedy)


def typed_here(program: str) -> str:
    """The name of one of our programs where PATH has it; else its path, as in a virtual environment."""
    return program if shutil.which(program) else shlex.quote(str(Path(sys.executable).with_name(program)))


class Programs:
    """Two programs in the background. They outlive the terminal, but not a restart of the machine."""

    def __init__(self, arguments: list[str], state: Path) -> None:
        self._arguments, self._state = arguments, state
        self.files: list[FileChange] = []
        self.end = ""

    def plan(self, *, both_run: bool) -> str:
        if both_run:
            return f"nothing: lmxd and its gateway run already; logs in {self._state}"
        return f"lmxd and its gateway in the background, as there is no systemd here; logs in {self._state}"

    def start(self, *, daemon_runs: bool, gateway_runs: bool) -> None:
        self._state.mkdir(mode=0o750, parents=True, exist_ok=True)
        programs = [("daemon.log", [], daemon_runs), ("gateway.log", ["gateway"], gateway_runs)]
        started: list[str] = []
        for log_name, command, runs in programs:
            if not runs:
                started.append(str(self._begin(log_name, command)))
                self.end = f"kill -INT {' '.join(started)}"

    def _begin(self, log_name: str, command: list[str]) -> int:
        """Start one, and wait until it is ready; its pid. LmxdError ``daemon_unavailable`` with its log's last line."""
        written = self._state / log_name
        with (
            tempfile.TemporaryDirectory(prefix="lmxd-") as place,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        ):
            told.bind(f"{place}/notify")
            told.settimeout(0.2)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with open(os.open(written, flags, 0o600), "ab") as file:
                child = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-m", "lmxd", *self._arguments, *command],
                    env=os.environ | {"NOTIFY_SOCKET": f"{place}/notify"},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            end = time.monotonic() + _PATIENCE
            while child.poll() is None and time.monotonic() < end:
                with suppress(TimeoutError):
                    if b"READY=1" in told.recv(2**16):
                        return child.pid
            child.terminate()
        lines = written.read_text(errors="replace").splitlines()
        raise LmxdError(
            "daemon_unavailable", f"lmxd did not start: {lines[-1] if lines else 'it said nothing'}", str(written)
        )
