"""The llama-server at hand: found at the start, and found anew when another one comes into its place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.daemon.present import Present
from lmxd.estimate.learned import Learned

log = logging.getLogger(__name__)

_FRESH: Final = 1.0
"""Seconds for which a look at the binary is good: devices may be looked at ten times a second."""


class EngineWatch:
    """Keeps flags, backends and estimates those of the llama-server that is there now.

    ``dry_runs``: the directory for its answers. ``learned``: what was observed. ``account``: the user that it runs as.
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

    async def find(self) -> None:
        """Look for it."""
        await asyncio.to_thread(self._present.find_engine, self._learned(), self._dry_runs, self._account())

    async def notice(self, *, at_once: bool = False) -> bool:
        """Look whether it was upgraded in its place, has come or has gone, at most once a second. Whether it was so."""
        if time.monotonic() - self._looked < _FRESH and not at_once:
            return False
        self._looked = time.monotonic()
        if not await asyncio.to_thread(self._present.engine_changed):
            return False
        before = self._present.engine_name
        await self.find()
        await asyncio.to_thread(self._present.find_usable)
        log.info("another llama-server is there: %s, instead of %s", self._present.engine_name, before)
        return True
