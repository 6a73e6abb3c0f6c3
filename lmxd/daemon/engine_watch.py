"""The engines at hand: found at the start, and found anew when another one comes into the place of one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.daemon.present import Present
from lmxd.estimate.learned import Learned

log = logging.getLogger(__name__)

_FRESH: Final = 1.0
"""Seconds for which a look at the binaries is good: devices may be looked at ten times a second."""


class EngineWatch:
    """Keeps flags, backends and estimates those of the engines that are there now.

    ``dry_runs``: the directory for their answers. ``learned``: what was observed. ``account``: the user that they run
    as.
    """

    def __init__(
        self,
        present: Present,
        dry_runs: Path,
        learned: Callable[[], Learned],
        account: Callable[[], SystemUser | None],
    ) -> None:
        self._present = present
        self._dry_runs = dry_runs
        self._learned = learned
        self._account = account
        self._looked = float("-inf")

    async def find(self, names: Iterable[str] | None = None) -> None:
        """Look for some of them; None: for all."""
        wanted = list(self._present.servers if names is None else names)
        await asyncio.to_thread(self._present.find_engines, wanted, self._learned(), self._dry_runs, self._account())

    async def notice(self, *, at_once: bool = False) -> bool:
        """Look whether one was upgraded in its place, has come or has gone, at most once a second. Whether it was so.

        ``at_once``: now, too.
        """
        if time.monotonic() - self._looked < _FRESH and not at_once:
            return False
        self._looked = time.monotonic()
        changed = await asyncio.to_thread(self._present.changed_engines)
        if not changed:
            return False
        before = self._present.engines()
        await self.find(changed)
        await asyncio.to_thread(self._present.find_usable)
        for name, found in self._present.engines().items():
            if name in changed:
                log.info("another engine %s is there: %s, instead of %s", name, found, before.get(name, "none"))
        return True
