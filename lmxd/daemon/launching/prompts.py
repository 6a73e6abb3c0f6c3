"""Prompt caches of ended instances, on disk, so that long prompts need not be computed again.

One directory per model file, engine build, settings and user: nobody's prompts are given to somebody else. An engine
reads and writes its cache through its doorway. That is open before anybody has the engine's key, and again when the
engine is about to end. In between there is none, so that clients have nothing to read or write there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.core.words import User
from lmxd.daemon.launching.doorway import SUFFIX, Doorway, remove, size_of
from lmxd.engines.engine import Endpoint, Engine, Plan, slot_file
from lmxd.errors import LmxdError
from lmxd.estimate.arguments import words
from lmxd.files import file_name

log = logging.getLogger(__name__)

_COMPLETE: Final = "complete"
"""A file that is written last: it has the sizes of all others by name, as JSON. Without it a cache is not read."""
_SHUT: Final = ".shut"
_LONGEST: Final = 30.0
"""Seconds that all slots may take: others wait for the bytes of the engine, and clients could make it busy again."""
_LOG: Final = 16 * 2**20
"""Bytes by which the log of an engine that saves may outgrow its cap: it is cut now and then only."""


class PromptCaches:
    """All prompt caches on disk: ``most`` bytes at most; those that were used longest ago go first."""

    def __init__(self, directory: Path, most: int, account: SystemUser | None = None) -> None:
        """``account``: the user that engines run as; None for ours."""
        self.directory = directory
        self.most = most
        self.account = account

    def door(self, instance: str) -> Path:
        return self.directory / f"{file_name(instance)}{SUFFIX}"

    def doorway(self, instance: str) -> Doorway:
        """The doorway of an instance."""
        return Doorway(self.door(instance), self.account)

    def open(self, plan: Plan, build: str, user: User) -> PromptCache | None:
        """The cache of an instance of ``plan`` that is private to ``user``; None if it cannot be kept."""
        assert plan.model is not None
        try:
            known = plan.model.stat()
            file = [str(plan.model), known.st_size, known.st_mtime_ns]
            beside = plan.companions.identity()
            how = [words(plan.launch), plan.flags, *((beside,) if beside else ())]
            key = json.dumps([*file, build, user, *how])
            path = self.directory / hashlib.sha256(key.encode()).hexdigest()[:32]
            cache = PromptCache(self, path, self.doorway(plan.instance))
            cache.begin(plan.launch.slots)
        except (OSError, LmxdError) as error:
            log.warning("%s: its prompt cache cannot be kept: %s", plan.instance, error)
            return None
        return cache

    def reopen(self, path: Path, door: Path) -> PromptCache:
        """The cache of an instance that runs already. Its door is shut, whatever an earlier lmxd had open."""
        cache = PromptCache(self, path, Doorway(door, self.account))
        cache.doorway.shut()
        return cache

    def sweep(self) -> None:
        """Remove the doors that an earlier lmxd left behind, and what is no complete cache."""
        for path in self._oldest_first():
            if path.suffix in (SUFFIX, _SHUT) or not (path / _COMPLETE).exists():
                remove(path)
        self.trim()

    def trim(self) -> None:
        """Keep within the bound."""
        sizes = {path: size_of(path) for path in self._oldest_first() if path.suffix not in (SUFFIX, _SHUT)}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self.most:
                return
            remove(path)
            total -= size

    def _oldest_first(self) -> Iterator[Path]:
        with suppress(OSError):
            yield from sorted(self.directory.iterdir(), key=lambda path: path.lstat().st_mtime)


class PromptCache:
    """The prompt cache of one private instance: kept at ``path``, and read and written through ``doorway``."""

    def __init__(self, caches: PromptCaches, path: Path, doorway: Doorway) -> None:
        self.path = path
        self.doorway = doorway
        self._caches = caches
        self._saved = doorway.path.with_suffix(_SHUT)
        """The directory behind the doorway when it is shut after a save."""

    def begin(self, slots: int) -> None:
        """Open the doorway for an engine that starts, with what is kept. Raises OSError."""
        self._open()
        sizes = self._sizes()
        for name in map(slot_file, range(slots)):
            with suppress(FileNotFoundError):
                if (self.path / name).lstat().st_size == sizes.get(name):
                    self.doorway.offer(name, self.path / name)
        self.doorway.admit()

    def _sizes(self) -> dict[str, int]:
        """Bytes of the files that are kept, by name: an engine may end by one that lost some with the power."""
        try:
            found = json.loads((self.path / _COMPLETE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    async def restore(self, engine: Engine, endpoint: Endpoint, slots: int) -> None:
        """Have the engine read what is kept, if there is anything; then shut the door. Raises OSError if it stays open.

        Nobody has the engine's key before this is done.
        """
        try:
            if any(self.doorway.path.iterdir()):
                restored = await engine.restore(endpoint, slots)
                log.info("%s: prompt cache %s", self.path.name, "restored" if restored else "could not be restored")
        finally:
            self.doorway.shut()

    async def save(self, engine: Engine, endpoint: Endpoint, slots: int, pid: int, log_cap: int) -> None:
        """Have an engine that is about to end write the caches of all slots: the files that wait for it, and no others.

        Clients have its key still. So the files are made before, in a directory that it cannot write to, and writing
        ends at the bound of all caches, or at that of its log, which is a file of its too. Raises OSError.
        """
        activity = await engine.activity(endpoint)
        if activity is None or activity.busy:
            return  # its slots would be saved when they are done, and others wait
        most = max(self._caches.most, log_cap + _LOG)
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))  # it ends by a signal, if it writes more than that
        self._open()
        try:
            for name in map(slot_file, range(slots)):
                self.doorway.make(name)
            self.doorway.admit()
            if await self.doorway.written(engine.save(endpoint, slots), self._caches.most, _LONGEST):
                self.doorway.path.rename(self._saved)
        finally:
            self.doorway.shut()

    def keep(self, slots: int) -> None:
        """Keep what an engine that has ended had saved: its slots, and nothing else that may be there."""
        wanted = {slot_file(slot) for slot in range(slots)}
        remove(self.doorway.path)
        with suppress(OSError):
            if self._caches.account is not None:  # nobody puts a link there any more
                os.chown(self._saved, os.geteuid(), -1, follow_symlinks=False)
            self._saved.chmod(0o700)
            for file in self._saved.iterdir():
                if file.name not in wanted or not stat.S_ISREG(file.lstat().st_mode):
                    file.unlink()
            remove(self.path)
            (self._saved / _COMPLETE).touch(0o600)
            sizes = {file.name: file.lstat().st_size for file in self._saved.iterdir() if file.name in wanted}
            (self._saved / _COMPLETE).write_text(json.dumps(sizes))
            os.utime(self._saved)
            self._saved.rename(self.path)
        self._caches.trim()

    def _open(self) -> None:
        self.doorway.shut()
        remove(self._saved)
        self.doorway.open()
