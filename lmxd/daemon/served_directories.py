"""Directories that are served without profiles are looked at anew when somebody asks for what is in them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from lmxd.catalog.served import with_served
from lmxd.config.schema import Config
from lmxd.daemon.present import Present

log = logging.getLogger(__name__)

_FRESH: Final = 1.0
"""Seconds for which a look at the directories is good: a client that guesses names causes no more looks."""


class ServedDirectories:
    """Keeps the catalog's models those of the directories that the configuration serves."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self._unread: list[str] = []
        self.written: Config = present.catalog.config
        """The configuration as it was written: without the models of directories."""

    def adopt(self, config: Config) -> None:
        """Take the configuration that is in force from now on."""
        self.written, self._looked = config, float("-inf")

    async def look(self, name: str | None = None) -> None:
        """Look at them; not if ``name`` is known, nor if they were looked at a moment ago."""
        if not self.written.models_from or (name is not None and self._knows(name)):
            return
        async with self._looking:
            if time.monotonic() - self._looked < _FRESH or (name is not None and self._knows(name)):
                return
            written = self.written
            config, unread = await asyncio.to_thread(with_served, written)
            self._looked = time.monotonic()
            if written is self.written:
                self._take(config, unread)

    async def own_name(self, name: str) -> str:
        """The name of the profile that a name means, also of one that has just come."""
        await self.look(name)
        return self._present.catalog.config.named(name)

    def is_variant(self, name: str) -> bool:
        """Whether a name is that of a variant of a model."""
        return self._present.catalog.config.is_variant(name)

    def _knows(self, name: str) -> bool:
        config = self._present.catalog.config
        return config.named(name) in config.models

    def _take(self, config: Config, unread: list[str]) -> None:
        present = self._present
        before = present.catalog.config.models
        if config.models.keys() != before.keys():
            new, gone = config.models.keys() - before.keys(), before.keys() - config.models.keys()
            log.info("models_from: %d models are new, %d are gone", len(new), len(gone))
        if config.models != before:
            present.catalog = present.catalog.renewed(config)
        if unread != self._unread:
            present.warnings = [*(w for w in present.warnings if w not in self._unread), *unread]
            self._unread = unread
