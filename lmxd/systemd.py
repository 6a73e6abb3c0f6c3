"""The little of systemd that is needed here: sd_notify(3), socket activation, the watchdog, calls of systemctl."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from lmxd.text import visible

_FIRST_FD = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
_PATIENCE: Final = 120.0
"""Seconds for one call of systemctl."""


class Notifier:
    """Tells the service manager how things are; does nothing where there is none."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        self._said = ""
        self._unsent: deque[str] = deque(maxlen=16)
        """Messages that the manager had no room for, in their order: Linux keeps ten of them, unless told otherwise."""
        microseconds = env.get("WATCHDOG_USEC", "")
        mine = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog: float | None = int(microseconds) / 1e6 if microseconds.isdecimal() and mine else None
        """Seconds within which WATCHDOG=1 is expected."""

    @property
    def heard(self) -> bool:
        """Returns whether there is a manager to tell anything to."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={visible(status)}")

    def status(self, status: str) -> None:
        """One line for people; sent only when it is another one."""
        if status != self._said:
            self._said = status
            self._send(f"STATUS={visible(status)}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """A sign of life, which takes along what the manager had no room for before."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        if message not in list(self._unsent)[-1:]:
            self._unsent.append(message)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_UNIX, kind) as sock, suppress(OSError):
            while self._unsent:  # a manager that is busy stops no daemon
                sock.sendto(self._unsent[0].encode(), socket.MSG_DONTWAIT, address)
                self._unsent.popleft()


def activated_socket(env: Mapping[str, str] = os.environ) -> socket.socket | None:
    """The listening socket that systemd passed, if it did."""
    if env.get("LISTEN_PID") != str(os.getpid()) or not env.get("LISTEN_FDS", "").isdecimal():
        return None
    for fd in range(_FIRST_FD, _FIRST_FD + int(env["LISTEN_FDS"])):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if sock.family == socket.AF_UNIX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return sock
        sock.detach()
    return None


def systemctl(arguments: list[str]) -> str | None:
    """The problem with a call of systemctl; None if there is none."""
    try:
        done = subprocess.run(  # noqa: S603
            ["systemctl", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or f"status {done.returncode}"
