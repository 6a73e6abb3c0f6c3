"""Conversations that move: saved from a slot of one instance, and read into a slot of another.

Whatever fails is no loss but of time: a client sends its conversation whole, and it is processed anew. The file of one
has a name that nobody can guess, for others may have the keys of both instances.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from lmxd.core.books.state import State
from lmxd.core.decisions import CarryConversation, SaveConversation
from lmxd.core.events import ConversationCarried, ConversationSaved, Event
from lmxd.core.moves import Carry
from lmxd.core.words import InstanceId, LeaseId, TicketId
from lmxd.daemon.launching.ahead import Ahead
from lmxd.daemon.launching.ends import End, SavedFile, end, longest, tried
from lmxd.daemon.launching.kept import Kept, remove_file
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.launching.shelf import Shelf
from lmxd.failpoints import hit

log = logging.getLogger(__name__)


class Carrying:
    """Carries conversations, each within half a minute. ``kept`` has their files meanwhile.

    ``shelf``: has what others left where they go.
    """

    def __init__(
        self,
        kept: Kept,
        shelf: Shelf,
        launched: Callable[[InstanceId], Launched | None],
        state: State,
        report: Callable[[Event], None],
    ) -> None:
        self.kept = kept
        self._shelf = shelf
        self.ahead = Ahead(kept, launched, state)
        self._launched = launched
        self._state = state
        self._report = report
        self._lying: dict[InstanceId, dict[int, LeaseId]] = {}
        """The slots into which conversations were read, and the leases that they are for."""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, decision: CarryConversation) -> None:
        """Begin to carry conversations. Reports ConversationCarried, whatever comes of it."""
        self._spawn(self._carry(decision))

    def save(self, decision: SaveConversation) -> None:
        """Begin to save the conversations of an instance. Reports ConversationSaved, whatever comes of it."""
        self._spawn(self._save(decision))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, decision: CarryConversation) -> None:
        """One that cannot be carried is no obstacle to the others. The time is for all of them together."""
        lease, instance, until = decision.lease, decision.instance, longest()
        what = f"{lease}: its conversation is processed anew on {instance}"
        slots = [await tried(self._carried(decision, carry), what, until) for carry in decision.carries]
        self._report(ConversationCarried(at=time.monotonic(), ticket=decision.ticket, slots=tuple(slots)))

    async def _save(self, decision: SaveConversation) -> None:
        """The files outlive their instance, until its leases have moved or ended."""
        instance, until = decision.instance, longest()
        what = f"what {instance} has is processed anew"
        filled = await tried(self._filled(instance, decision.slots), what, until) or ()
        saved = [await tried(self._saved(instance, slot), what, until) for slot in filled]
        carries = tuple(carry for carry in saved if carry is not None)
        if decision.others:
            await self._shelf.rescue(instance, decision.others)
        self._report(ConversationSaved(at=time.monotonic(), instance=instance, slots=decision.slots, carries=carries))

    async def _filled(self, instance: InstanceId, slots: Collection[int]) -> list[int]:
        """The slots among some that have a conversation, in order. Raises Uncarried."""
        used = await (await end(self._launched(instance), instance)).used()
        return [slot for slot, use in enumerate(used) if slot in slots and use is not None and use.tokens]

    async def _saved(self, instance: InstanceId, slot: int) -> Carry:
        """The conversation of a slot, in a file. Raises Uncarried, and OSError for files."""
        source = await end(self._launched(instance), instance)
        async with self.kept.saved(source, slot) as saved:
            hit("growth_saved")
            name = self.kept.keep(saved, instance, slot)
        return Carry(instance=instance, slot=slot, file=name, spread=source.streams)

    async def _carried(self, decision: CarryConversation, carry: Carry) -> int:
        """The slot in which it lies. Raises Uncarried, and OSError for files."""
        lease, instance = decision.lease, decision.instance
        begun, target = time.monotonic(), await end(self._launched(instance), instance)
        if carry.file:
            saved = self.kept.find(carry.file)
            slot = await self._moved(saved, carry.spread, target, lease)
        else:
            source = await end(self._launched(carry.instance), carry.instance)
            saved = await self._fetched(decision.ticket, carry, source)
            try:
                slot = await self._moved(saved, source.streams, target, lease)
            finally:
                remove_file(saved.path)
        hit("growth_restored")
        seconds = time.monotonic() - begun
        log.info("%s: %d tokens carried from %s to %s, slot %d, in %.2f s",
                 lease, saved.tokens, carry.instance, instance, slot, seconds)  # fmt: skip
        return slot

    async def _fetched(self, ticket: TicketId, carry: Carry, source: End) -> SavedFile:
        """The file of a growth's conversation, the caller's. Raises Uncarried, and OSError for files."""
        if (ahead := await self.ahead.take(ticket, carry, source)) is not None:
            return ahead
        async with self.kept.saved(source, carry.slot) as saved:
            hit("growth_saved")
            return saved

    async def _moved(self, saved: SavedFile, streams: int, target: End, lease: LeaseId) -> int:
        """The slot into which a file of an instance with ``streams`` was read: one that nobody uses, and has the least.

        Raises Uncarried, and OSError for files.
        """
        await target.fit(saved, streams)
        await self._shelf.rescue(target.instance, (await target.free_slot(self._awaited(target.instance)),))
        async with target.doorway.turn:
            lying = self._awaited(target.instance)
            slot = await target.free_slot(lying)
            await target.restore(slot, saved)
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
