"""Saving ahead: what a growth carries is written while the instance that is to read it loads, which takes as long.

What was written counts only if the slot has had no other request since. Else it is written again when it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, StartInstance
from lmxd.core.moves import Carry
from lmxd.core.words import InstanceId, TicketId
from lmxd.daemon.launching.ends import End, SavedFile, Uncarried, end, longest, tried
from lmxd.daemon.launching.kept import Kept, remove_file
from lmxd.daemon.launching.launched import Launched
from lmxd.failpoints import hit

_LOOK: Final = 1.0
"""Seconds between looks for growths that wait no more."""


class _Written(NamedTuple):
    """A file, with the number of the last request that its slot had then (SlotUse)."""

    saved: SavedFile
    task: int


class Ahead:
    """The conversations that are saved ahead, of growths that wait for an instance which loads for them."""

    def __init__(self, kept: Kept, launched: Callable[[InstanceId], Launched | None], state: State) -> None:
        self._kept = kept
        self._launched = launched
        self._state = state
        self._saves: dict[tuple[TicketId, Carry], asyncio.Task[_Written | None]] = {}
        self._next: asyncio.TimerHandle | None = None

    def decided(self, decision: Decision) -> None:
        """Take in a decision that is carried out: growths may wait for what it starts."""
        if not isinstance(decision, StartInstance):
            return
        for growth in self._state.tickets.values():
            for carry in growth.carries if growth.instance == decision.instance else ():
                if not carry.file and (growth.id, carry) not in self._saves:
                    self._saves[growth.id, carry] = asyncio.get_running_loop().create_task(self._begun(carry))
        self._tidy()

    def _tidy(self) -> None:
        """Drop what was saved for growths that wait no more, now and every second while there is any."""
        for key in [key for key in self._saves if key[0] not in self._state.tickets]:
            self._drop(self._saves.pop(key))
        if self._saves and self._next is None:
            self._next = asyncio.get_running_loop().call_later(_LOOK, self._again)

    def _again(self) -> None:
        self._next = None
        self._tidy()

    async def take(self, ticket: TicketId, carry: Carry, source: End) -> SavedFile | None:
        """The file of a conversation, now the caller's; None if there is none that has all of it."""
        if (save := self._saves.pop((ticket, carry), None)) is None:
            return None
        taken = False
        try:
            written = await save
            taken = written is not None and await _task(source, carry.slot) == written.task
            return written.saved if written is not None and taken else None
        finally:
            if not taken:
                self._drop(save)

    def _drop(self, save: asyncio.Task[_Written | None]) -> None:
        """Have the file of a save removed, which may still be written."""
        save.cancel()
        save.add_done_callback(_removed)

    async def _begun(self, carry: Carry) -> _Written | None:
        what = f"what slot {carry.slot} of {carry.instance} has is not saved ahead"
        return await tried(self._written(carry), what, longest())

    async def _written(self, carry: Carry) -> _Written:
        """Raises Uncarried, and OSError for files."""
        source = await end(self._launched(carry.instance), carry.instance)
        if (task := await _task(source, carry.slot)) is None:
            raise Uncarried("it is at work")
        async with self._kept.saved(source, carry.slot, "saved ahead") as saved:
            hit("growth_saved")
            if await _task(source, carry.slot) != task:
                raise Uncarried("it has worked meanwhile")
        return _Written(saved, task)


async def _task(source: End, slot: int) -> int | None:
    """The number of the last request that a slot had; None while it is at one, or if its engine does not say."""
    use = await source.use(slot)
    return None if use is None or use.busy else use.task


def _removed(save: asyncio.Task[_Written | None]) -> None:
    if not save.cancelled() and (written := save.result()) is not None:
        remove_file(written.saved.path)
