"""Prompt caches of ended instances, on disk, so that long prompts need not be computed again.

One directory per model file, engine build, settings and user: nobody's prompts are given to somebody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lmxd.engines.engine import Endpoint, Engine, Plan
from lmxd.files import open_regular

log = logging.getLogger(__name__)

_COMPLETE = "complete"
"""An empty file that is written last: without it a cache is not read."""


class PromptCaches:
    """All prompt caches on disk: ``most`` bytes at most; those that were used longest ago go first."""

    def __init__(self, directory: Path, most: int) -> None:
        self.directory = directory
        self.most = most

    def open(self, plan: Plan, build: str, uid: int) -> PromptCache | None:
        """The cache of an instance of ``plan`` for ``uid``; None if it cannot be kept."""
        assert plan.model is not None
        try:
            known = plan.model.stat()
            file = [str(plan.model), known.st_size, known.st_mtime_ns]
            size = [plan.context, plan.slots, plan.cache_type_k, plan.cache_type_v, plan.flash, plan.split, plan.flags]
            key = json.dumps([*file, build, uid, *size])
            path = self.directory / hashlib.sha256(key.encode()).hexdigest()[:32]
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.warning("%s: its prompt cache cannot be kept: %s", plan.instance, error)
            return None
        return PromptCache(self, path, uid)

    def reopen(self, path: Path, uid: int | None) -> PromptCache:
        """The cache of an instance that runs already; ``uid`` None: it served several users."""
        return PromptCache(self, path, uid)

    def trim(self) -> None:
        """Keep within the bound."""
        sizes = {path: _size(path) for path in self._oldest_first()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self.most:
                return
            shutil.rmtree(path, ignore_errors=True)
            total -= size

    def _oldest_first(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from sorted(self.directory.iterdir(), key=lambda path: path.stat().st_mtime)


class PromptCache:
    """The prompt cache of one instance, in a directory that only the daemon can read."""

    def __init__(self, caches: PromptCaches, path: Path, uid: int | None) -> None:
        self.path = path
        self._caches = caches
        self.uid = uid
        """The user whose it is; None if it is nobody's to keep."""

    def used_by(self, uid: int) -> None:
        """Note a user who was served. A cache that served two users is nobody's to keep."""
        if uid != self.uid:
            self.uid = None

    async def save(self, engine: Engine, endpoint: Endpoint, slots: int) -> None:
        """Write the caches of all slots. If one cannot be written, none is kept."""
        complete = self.path / _COMPLETE
        complete.unlink(missing_ok=True)
        if self.uid is None or not await engine.save(endpoint, slots):
            return
        with suppress(OSError):
            for file in self.path.iterdir():
                _close_to_others(file)
            os.close(open_regular(complete, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.utime(self.path)
        await asyncio.to_thread(self._caches.trim)

    async def restore(self, engine: Engine, endpoint: Endpoint, slots: int) -> None:
        """Read it back into the slots, if there is anything."""
        if (self.path / _COMPLETE).exists():
            restored = await engine.restore(endpoint, slots)
            log.info("%s: prompt cache %s", self.path.name, "restored" if restored else "could not be restored")


def _close_to_others(path: Path) -> None:
    """Raises OSError, also for a link: an engine may have left one."""
    file = open_regular(path, os.O_RDONLY)
    try:
        os.fchmod(file, 0o600)
    finally:
        os.close(file)


def _size(directory: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in directory.iterdir())
    return 0
