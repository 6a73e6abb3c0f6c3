"""What goes wrong in bench/elastic.py where it is told to: lmxd is killed, or others take the memory that is free."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from background import Background
from lmxd_process import Lmxd

from lmxd.rpc.client import Client

HELD = 4.0
"""Seconds for which others have what they took."""
BETWEEN = 2.0
"""Seconds in which they leave lmxd alone then, so that a queue moves on."""


class Trouble(Background):
    """``with Trouble(…) as trouble``: it happens until the block ends. ``count``: how often it did."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __enter__(self) -> Trouble:
        self.start()
        return self


class Kills(Trouble):
    """SIGKILL of lmxd at random moments, ``every`` so many seconds in the mean, and a new one each time."""

    def __init__(self, lmxd: Lmxd, seed: int, every: float) -> None:
        super().__init__()
        self._lmxd, self._chance, self._every = lmxd, random.Random(seed), every

    def work(self) -> None:
        while not self._over.wait(self._chance.expovariate(1 / self._every)):
            self._lmxd.process.kill()
            self._lmxd.process.wait()
            self._lmxd.start()
            self.count += 1


class Squeezes(Trouble):
    """Others have all that is free, from the start of each larger instance on, for a few seconds.

    ``taken``: holds so many bytes as long as its block lasts.
    """

    def __init__(self, lmxd: Lmxd, taken: Callable[[int], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._lmxd, self._taken = lmxd, taken
        self._grows = False

    def work(self) -> None:
        with Client(self._lmxd.socket, on_notification=self._told) as client:
            watched = None
            while not self._over.wait(0.05):
                if watched != self._lmxd.process.pid:  # at first, and after it was killed
                    watched = self._lmxd.process.pid
                    client.watch()
                free = sum(device.headroom for device in client.devices().devices)
                if not self._grows or free <= 0:
                    continue
                with self._taken(free):
                    self.count += 1
                    self._over.wait(HELD)
                self._over.wait(BETWEEN)
                self._grows = False

    def _told(self, _: str, said: dict[str, Any]) -> None:
        first = str(said.get("instance")).endswith("#1")
        self._grows |= said["event"] == "StartInstance" and not first
