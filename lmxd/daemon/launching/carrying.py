"""Conversations that move: saved from a slot of one instance, and read into a slot of another.

Whatever fails is no loss but of time: a client sends its conversation whole, and it is processed anew. The file of one
has a name that nobody can guess, for others may have the keys of both instances; it is there for seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.core.books.state import State
from lmxd.core.decisions import CarryConversation
from lmxd.core.events import ConversationCarried, Event
from lmxd.core.policy.growing import CARRIED_WITHIN
from lmxd.core.words import InstanceId, LeaseId
from lmxd.daemon.launching.doors import door
from lmxd.daemon.launching.doorway import Doorway, remove
from lmxd.daemon.launching.launched import Launched
from lmxd.engines.carrier import Carrier
from lmxd.engines.engine import Endpoint
from lmxd.failpoints import hit

log = logging.getLogger(__name__)

LONGEST: Final = CARRIED_WITHIN
"""Seconds until a conversation is processed anew rather than waited for."""
SPARE: Final = 256 * 2**20
"""Bytes that stay free on the disk, which has lmxd's ledger, too."""


class _Uncarried(Exception):
    """A conversation cannot be carried, for the reason that it says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _End:
    """One of the two instances of a move."""

    instance: InstanceId
    carrier: Carrier
    endpoint: Endpoint
    doorway: Doorway
    slots: int

    async def save(self, slot: int, file: Path) -> int:
        """Have what a slot has written to a file. The tokens. Raises _Uncarried, and OSError for files."""
        async with self.doorway.turn:
            try:
                self.doorway.open()
                self.doorway.make(file.name)
                self.doorway.admit()
                saving = self.carrier.save_slot(self.endpoint, slot, file.name)
                tokens = await self.doorway.written(saving, _room(file.parent), LONGEST)
                if not tokens:
                    raise _Uncarried(f"slot {slot} of {self.instance} was not saved, or has nothing")
                self.doorway.take(file.name, file)
                return tokens
            finally:
                self.doorway.shut()

    async def fit(self, file: Path) -> None:
        """Make a file of another number of slots one that can be read. Raises _Uncarried, and OSError for files."""
        if _room(file.parent) < file.stat().st_size:  # it may have to be copied
            raise _Uncarried("the disk is full")
        if not await asyncio.to_thread(self.carrier.fit, file, self.slots):
            raise _Uncarried("what its engine saved is laid out in another way than lmxd knows")

    async def restore(self, slot: int, file: Path, tokens: int) -> None:
        """Have a file read into a slot. Raises _Uncarried, and OSError for files."""
        try:
            self.doorway.open()
            self.doorway.hand_over(file)
            self.doorway.offer(file.name, file)
            self.doorway.admit()
            restored = await self.carrier.restore_slot(self.endpoint, slot, file.name)
        finally:
            self.doorway.shut()
        if restored != tokens:
            await self.carrier.erase_slot(self.endpoint, slot)  # it may have a part
            raise _Uncarried(f"{self.instance} did not read it")


class Carrying:
    """Carries conversations, each within half a minute. ``directory`` has their files meanwhile."""

    def __init__(
        self,
        directory: Path,
        launched: Callable[[InstanceId], Launched | None],
        state: State,
        report: Callable[[Event], None],
    ) -> None:
        self._directory = directory
        self._launched = launched
        self._state = state
        self._report = report
        self._lying: dict[InstanceId, dict[int, LeaseId]] = {}
        """The slots into which conversations were read, and the leases that they are for."""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, decision: CarryConversation) -> None:
        """Begin to carry a conversation. Reports ConversationCarried, whatever comes of it."""
        task = asyncio.get_running_loop().create_task(self._carry(decision))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def sweep(self) -> None:
        """Remove what an earlier lmxd left: its moves are forgotten."""
        remove(self._directory)

    async def _carry(self, decision: CarryConversation) -> None:
        slot, why = None, ""
        try:
            async with asyncio.timeout(LONGEST):
                slot = await self._carried(decision)
        except _Uncarried as error:
            why = str(error)
        except TimeoutError:
            why = f"it takes longer than {LONGEST:g} s"
        except OSError as error:
            why = str(error)
        except Exception:
            log.exception("%s: its conversation was not carried", decision.lease)
        if why:
            log.warning("%s: its conversation is processed anew on %s: %s", decision.lease, decision.instance, why)
        self._report(ConversationCarried(at=time.monotonic(), ticket=decision.ticket, slot=slot))

    async def _carried(self, decision: CarryConversation) -> int:
        """The slot in which it lies. Raises _Uncarried, and OSError for files."""
        begun, carry = time.monotonic(), decision.carry
        source, target = await self._end(carry.instance), await self._end(decision.instance)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._directory / f"{secrets.token_hex(16)}.bin"
        try:
            tokens = await source.save(carry.slot, file)
            hit("growth_saved")
            if source.slots != target.slots:
                await target.fit(file)
            slot = await self._restored(target, file, tokens, decision.lease)
            hit("growth_restored")
        finally:
            file.unlink(missing_ok=True)
        seconds = time.monotonic() - begun
        log.info("%s: %d tokens carried from %s to %s, slot %d, in %.2f s",
                 decision.lease, tokens, carry.instance, decision.instance, slot, seconds)  # fmt: skip
        return slot

    async def _end(self, instance: InstanceId) -> _End:
        """One end of a move. Raises _Uncarried if nothing can be carried there."""
        launched = self._launched(instance)
        if launched is None or launched.endpoint is None or launched.doorway is None:
            raise _Uncarried(f"{instance} has none that can be carried")
        if not isinstance(launched.engine, Carrier) or not (await door(launched)).own:
            raise _Uncarried(f"{instance} cannot be asked for it")
        return _End(
            instance=instance,
            carrier=launched.engine,
            endpoint=launched.endpoint,
            doorway=launched.doorway,
            slots=launched.plan.launch.slots,
        )

    async def _restored(self, target: _End, file: Path, tokens: int, lease: LeaseId) -> int:
        """The slot into which a file was read: one that nobody uses, and has the least. Raises _Uncarried, OSError."""
        async with target.doorway.turn:
            lying = self._awaited(target.instance)
            slot = _least(await target.carrier.used(target.endpoint) or (), lying)
            if slot is None:
                raise _Uncarried(f"no slot of {target.instance} is free")
            await target.restore(slot, file, tokens)
            lying[slot] = lease
            return slot

    def _awaited(self, instance: InstanceId) -> dict[int, LeaseId]:
        """The slots of an instance with conversations whose leases are there, or on their way."""
        leases = self._state.leases
        for name in [name for name in self._lying if self._launched(name) is None]:
            del self._lying[name]
        found = {
            slot: name
            for slot, name in self._lying.get(instance, {}).items()
            if name in leases and (leases[name].instance == instance or leases[name].growing is not None)
        }
        self._lying[instance] = found
        return found


def _least(used: Sequence[int | None], lying: Collection[int]) -> int | None:
    """The idle slot with the fewest tokens, which are lost; None if there is none."""
    free = [(tokens, slot) for slot, tokens in enumerate(used) if tokens is not None and slot not in lying]
    return min(free)[1] if free else None


def _room(directory: Path) -> int:
    """Bytes that may be written there."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize - SPARE
