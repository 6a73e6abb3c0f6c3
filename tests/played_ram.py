"""RAM of which others take some when a test says so: lmxd and real engines, and a played /proc/meminfo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from play.daemon import PlayedLmxd
from play.directories import build


class PlayedRam(PlayedLmxd):
    """A daemon in ``memory`` bytes of RAM, all of which are its own until others take some."""

    def __init__(self, directory: Path, config: dict[str, Any], memory: int) -> None:
        self._memory = memory
        super().__init__(directory, config | {"gpu": {"device": "host", "margin_gb": 0}}, directory / "machine")
        build("none", self.machine)
        self.others_take(0)

    def others_take(self, taken: int) -> None:
        """From the next reading on, other programs have so many bytes, and no more than these."""
        left = (self._memory - taken) // 1024
        new = self.machine / "proc/meminfo.new"
        new.write_text(f"MemTotal: {self._memory // 1024} kB\nMemAvailable: {left} kB\n")
        os.replace(new, self.machine / "proc/meminfo")  # a reading has all of it, old or new

    @contextmanager
    def others_have(self, taken: int) -> Iterator[None]:
        """Others have so many bytes as long as the block lasts."""
        self.others_take(taken)
        try:
            yield
        finally:
            self.others_take(0)
