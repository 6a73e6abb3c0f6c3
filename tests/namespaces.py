"""Boxes with a network of their own on this machine: a network namespace, and a cable (veth) from it to here."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import Self

HERE = os.getpid()


class Namespace:
    """``with Namespace(1) as there``: ``command`` begins a program there, whose address is ``there.address``.

    From there this machine is at ``gateway``. ``number``: 0 to 63, another for each of one process.
    """

    def __init__(self, number: int) -> None:
        self._name, self._cable = f"lmxd-{HERE}-{number}", f"lx{HERE % 10**6}-{number}"
        net = f"198.18.{HERE % 250}"  # for trials of networks, by RFC 2544: nobody else has it
        self.gateway, self.address = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._name)
            _ip("address", "add", f"{self.gateway}/30", "dev", self._cable)
            _ip("-n", self._name, "address", "add", f"{self.address}/30", "dev", "eth0")
            for link in ("lo", "eth0"):
                _ip("-n", self._name, "link", "set", link, "up")
            self.plug()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "delete", self._name)  # and the cable with it

    def command(self, *words: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._name}", "--", *words]

    def unplug(self) -> None:
        """Let nothing pass; no connection is told."""
        _ip("link", "set", self._cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self._cable, "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@cache
def impossible() -> str:
    """Why no namespace can be made here; empty if it can."""
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    try:
        with Namespace(63):
            return ""
    except OSError as error:
        return str(error)
