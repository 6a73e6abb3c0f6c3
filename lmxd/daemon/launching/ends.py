"""The ends of a move: an instance that writes what one of its slots has to a file, or reads it from there."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from lmxd.core.policy.growing import CARRIED_WITHIN
from lmxd.core.words import InstanceId
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.doorway import Doorway
from lmxd.daemon.launching.launched import Launched
from lmxd.engines.carrier import Carrier, SlotUse
from lmxd.engines.engine import Endpoint

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST: Final = CARRIED_WITHIN
"""Seconds until a conversation is processed anew rather than waited for."""
SPARE: Final = 256 * 2**20
"""Bytes that stay free on the disk, which has lmxd's ledger, too."""


class Uncarried(Exception):
    """A conversation cannot be carried, for the reason that it says."""


class SavedFile(NamedTuple):
    """The conversation of a slot on disk: the tokens in it, and the bytes that were written."""

    path: Path
    tokens: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """One of the two instances of a move. ``streams``: its caches beside each other, of a slot each, or one for all."""

    instance: InstanceId
    carrier: Carrier
    endpoint: Endpoint
    doorway: Doorway
    streams: int

    async def save(self, slot: int, file: Path) -> SavedFile:
        """Have what a slot has written to a file. Raises Uncarried, and OSError for files."""
        async with self.doorway.turn:
            try:
                self.doorway.open()
                self.doorway.make(file.name)
                self.doorway.admit()
                saving = self.carrier.save_slot(self.endpoint, slot, file.name)
                saved = await self.doorway.written(saving, _room(file.parent), LONGEST)
                if saved is None or not saved.tokens:
                    raise Uncarried(f"slot {slot} of {self.instance} was not saved, or has nothing")
                self.doorway.take(file.name, file)
                size = file.stat().st_size
                if saved.size not in (None, size):
                    raise Uncarried(f"the file of slot {slot} of {self.instance} is not whole: the disk may be full")
                return SavedFile(file, saved.tokens, size)
            finally:
                self.doorway.shut()

    async def fit(self, saved: SavedFile, streams: int) -> None:
        """Make the file of an instance with ``streams`` one that can be read, if it is not as it was written there.

        One of another size was fitted before, or is not whole: an engine that reads such a one may end by it. Raises
        Uncarried, and OSError for files.
        """
        size = saved.path.stat().st_size
        if (streams, saved.size) == (self.streams, size):
            return
        if _room(saved.path.parent) < size:  # it may have to be copied
            raise Uncarried("the disk is full")
        if not await asyncio.to_thread(self.carrier.fit, saved.path, self.streams):
            raise Uncarried("its file is not whole, or is laid out in another way than lmxd knows")

    async def used(self) -> Sequence[SlotUse | None]:
        """The use of each slot; None in place of that of one that is at a prompt. None at all if it does not say."""
        return await self.carrier.used(self.endpoint) or ()

    async def use(self, slot: int) -> SlotUse | None:
        """The use of one; None while it is at a prompt, or if its engine does not say."""
        used = await self.used()
        return used[slot] if slot < len(used) else None

    async def free_slot(self, lying: Collection[int]) -> int:
        """The idle slot with the fewest tokens, which are lost, but for those in ``lying``. Raises Uncarried."""
        slot = _least(await self.used(), lying)
        if slot is None:
            raise Uncarried(f"no slot of {self.instance} is free")
        return slot

    async def restore(self, slot: int, saved: SavedFile) -> None:
        """Have a file read into a slot. Raises Uncarried, and OSError for files."""
        file = saved.path
        try:
            self.doorway.open()
            self.doorway.hand_over(file)
            self.doorway.offer(file.name, file)
            self.doorway.admit()
            restored = await self.carrier.restore_slot(self.endpoint, slot, file.name)
        finally:
            self.doorway.shut()
        if restored != saved.tokens:
            await self.carrier.erase_slot(self.endpoint, slot)  # it may have a part
            raise Uncarried(f"{self.instance} did not read it")


async def end(launched: Launched | None, instance: InstanceId) -> End:
    """An end of a move. Raises Uncarried if nothing can be carried there."""
    if launched is None or launched.endpoint is None or launched.doorway is None:
        raise Uncarried(f"{instance} has none that can be carried")
    if not isinstance(launched.engine, Carrier) or not (await door(launched)).own:
        raise Uncarried(f"{instance} cannot be asked for it")
    return End(
        instance=instance,
        carrier=launched.engine,
        endpoint=launched.endpoint,
        doorway=launched.doorway,
        streams=launched.plan.launch.streams,
    )


def longest() -> float:
    """The time of the loop's clock until which conversations are carried that begin to be now."""
    return asyncio.get_running_loop().time() + LONGEST


async def tried(work: Awaitable[T], what: str, until: float) -> T | None:
    """The outcome of work with conversations; None if it failed, or took too long, which is logged after ``what``."""
    try:
        async with asyncio.timeout_at(until):
            return await work
    except Uncarried as error:
        why = str(error)
    except TimeoutError:
        why = "it takes too long"
    except OSError as error:
        why = str(error)
    except Exception:
        log.exception("%s", what)
        return None
    log.warning("%s: %s", what, why)
    return None


def _least(used: Sequence[SlotUse | None], lying: Collection[int]) -> int | None:
    free = [
        (use.tokens, slot) for slot, use in enumerate(used) if use is not None and not use.busy and slot not in lying
    ]
    return min(free)[1] if free else None


def _room(directory: Path) -> int:
    """Bytes that may be written there."""
    return free_bytes(directory) - SPARE


def free_bytes(directory: Path) -> int:
    """Free bytes of the disk of a directory."""
    return shutil.disk_usage(directory).free
