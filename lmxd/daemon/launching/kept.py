"""Conversations on disk: of instances that end before another has read what they knew, a file for each slot.

Nobody can guess a file's name, for others may have the key of the instance that reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path
from typing import Final

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, ForgetInstance, MoveLease, StartInstance
from lmxd.core.words import InstanceId, Phase
from lmxd.daemon.launching.ends import End, SavedFile

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[0-9a-f]{32}-([0-9]{1,9})-([0-9]{1,15})\.bin")
"""The name of a kept file: it says how many tokens are in it, and bytes."""


class Kept:
    """The files of conversations in ``directory``: each for as long as a parked lease or an instance is to have it."""

    def __init__(self, directory: Path, state: State) -> None:
        self._directory = directory
        self._state = state
        self._of: dict[str, tuple[InstanceId, int]] = {}
        """The instance and the slot that each file of this daemon was saved of."""
        self._for: dict[str, InstanceId | None] = {}
        """The instance that each file is of, or that is to read it; None: only a parked lease is to have it."""

    @contextlib.asynccontextmanager
    async def saved(self, source: End, slot: int, how: str = "saved") -> AsyncIterator[SavedFile]:
        """A new file of what a slot has: the caller's once the block is over, and removed if that fails.

        ``how`` it was saved is logged. Raises Uncarried, and OSError for files.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        begun, file = time.monotonic(), self._directory / f"{secrets.token_hex(16)}.bin"
        try:
            saved = await source.save(slot, file)
            yield saved
        except BaseException:
            remove_file(file)
            raise
        seconds = time.monotonic() - begun
        log.info("%s: %d tokens of slot %d %s in %.2f s", source.instance, saved.tokens, slot, how, seconds)

    def keep(self, saved: SavedFile, instance: InstanceId, slot: int) -> str:
        """Keep what a slot had, instead of what is kept of it already. The name of the file. Raises OSError."""
        name = f"{saved.path.stem}-{saved.tokens}-{saved.size}.bin"
        saved.path.rename(self._directory / name)
        self._let_go(before for before, source in self._of.items() if source == (instance, slot))
        self._for[name], self._of[name] = instance, (instance, slot)
        return name

    def find(self, name: str) -> SavedFile:
        """A kept file. FileNotFoundError if there is none of that name."""
        known, file = _NAME.fullmatch(name), self._directory / name
        if known is None or not file.is_file():
            raise FileNotFoundError(f"its file {name!r} is gone")
        return SavedFile(file, int(known[1]), int(known[2]))

    def decided(self, decision: Decision) -> None:
        """Take in a decision that is carried out: by some of them, files are not needed any more."""
        match decision:
            case StartInstance() if decision.carries:
                self._for |= {c.file: decision.instance for c in decision.carries if c.file in self._for}
            case MoveLease():
                self.let_go(decision.before)
            case ForgetInstance():
                self.let_go(decision.instance)
            case _:
                self._tidy_soon()

    def let_go(self, instance: InstanceId) -> None:
        """An instance needs its files no more: it is gone, or has read them, or they have been read by another."""
        self._let_go(name for name, owner in self._for.items() if owner == instance)

    def _let_go(self, names: Iterable[str]) -> None:
        self._for |= dict.fromkeys(tuple(names))
        self._tidy_soon()

    def _tidy_soon(self) -> None:
        if self._for:  # another is perhaps to have one by the same event
            asyncio.get_running_loop().call_soon(self._tidy)

    def _tidy(self) -> None:
        """Remove the files that nobody is to have any more."""
        unowned = {name for name, owner in self._for.items() if owner is None or self._is_stale(name, owner)}
        if not unowned:
            return
        parked = [lease.parked for lease in self._state.leases.values() if lease.parked is not None]
        for name in unowned - {carry.file for each in parked for carry in each.carries}:
            del self._for[name]
            self._of.pop(name, None)
            remove_file(self._directory / name)

    def _is_stale(self, name: str, owner: InstanceId) -> bool:
        """Whether an instance goes on, and has worked since it was saved, or is not to end any more."""
        instance = self._state.instances.get(owner)
        if instance is None or instance.phase is not Phase.READY or instance.saving:
            return False
        return all(carry.file != name for carry in instance.carries)

    def sweep(self, names: Collection[str]) -> None:
        """Remove what an earlier lmxd left, but for the files of these names, which its parked leases are to have."""
        self._for = dict.fromkeys(names)
        try:
            left = [path for path in self._directory.iterdir() if path.name not in names]
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("no conversation can be kept: %s", error)
            return
        for path in left:
            remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there. One that cannot be is left behind."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("it is left behind: %s", error)
