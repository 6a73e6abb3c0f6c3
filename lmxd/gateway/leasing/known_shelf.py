"""Conversations that take turns in one slot: what a request would overwrite is put by, what it goes on with comes back.

A long conversation has an instance of few slots, so that several of them meet there in turns. A slot's file is written
and read sooner than a long prompt is processed. One that was asked for once only is not put by: it may never go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lmxd.errors import LmxdError
from lmxd.gateway.leasing.slots import InstanceSlots
from lmxd.gateway.leasing.traces import Trace, agreeing, gained
from lmxd.rpc.messages import Granted
from lmxd.rpc.notifications import ConversationPutBy
from lmxd.rpc.shelving import Shelved

_WORTH: Final = 32
"""Blocks of a prompt, some 1,000 tokens, from which a file is sooner than processing them anew."""
_MOST: Final = 64
"""Conversations that are remembered: lmxd keeps no more of one connection."""


class ShelveCall(Protocol):
    """The call of lmxd. LmxdError."""

    async def __call__(self, lease: str, slot: int, *, keep: bool, back: str | None) -> Shelved: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Displaced:
    """A conversation that lost its slot: what was seen of its prompt, and the context that it lay in.

    ``name``: that of its file; None if it was not put by.
    """

    model: str
    seen: Trace
    context: int
    name: str | None = None


class KnownShelf:
    """The conversations that lost their slots here, the oldest first, and the files that lmxd has of them."""

    def __init__(
        self,
        slots: InstanceSlots,
        shelve: ShelveCall,
        in_background: Callable[[Coroutine[Any, Any, object]], asyncio.Task[None]],
    ) -> None:
        self._slots = slots
        self._shelve = shelve
        self._in_background = in_background
        self._displaced: list[_Displaced] = []

    def lies_in(self, model: str, prompt: Trace) -> tuple[int, int]:
        """Blocks that the file of a conversation gains that goes on with a prompt, and its context. Zeros without."""
        found = self._best(model, prompt)
        return (0, 0) if found is None or found.name is None else (gained(found.seen, prompt), found.context)

    def put_by(self, told: ConversationPutBy) -> None:
        """Note that what was left in a slot is on disk now: another has taken its place."""
        if (left := self._slots.left(told.model, told.instance, told.slot)) is not None:
            seen, context = left
            self._note(_Displaced(told.model, seen, context, told.kept))

    async def exchange(self, lease: Granted, slot: int | None, prompt: Trace) -> None:
        """Have the slot that a request has taken have its conversation, and keep what was there, if it is worth it.

        Once lmxd has begun, it goes on though the request is withdrawn, which has the slot until then: what lmxd keeps
        is known, and the next request, perhaps the same once more, comes when all lies where it is to lie.
        """
        if slot is None or lease.ctx_most is None or not lease.alone:
            return
        before, lost = self._slots.before(lease, slot), None
        common, found = agreeing(before.seen, prompt), self._best(lease.model, prompt)
        if found is not None and agreeing(found.seen, prompt) - common < _WORTH:
            found = None
        if found is not None:
            self._displaced.remove(found)  # lmxd has its file no more, whatever comes of it
            self._slots.goes_on(lease, slot)
        if len(before.seen) - common >= _WORTH:
            lost = _Displaced(lease.model, before.seen, lease.ctx)
        back = None if found is None else found.name
        if lost is not None and not before.went_on:
            self._note(lost)
            lost = None
        if lost is not None or back is not None:
            exchanged = self._in_background(self._exchanged(lease, slot, lost, back))
            try:
                await asyncio.shield(exchanged)
            finally:
                await exchanged

    async def _exchanged(self, lease: Granted, slot: int, lost: _Displaced | None, back: str | None) -> None:
        with suppress(LmxdError):  # then it is processed anew
            told = await self._shelve(lease.lease, slot, keep=lost is not None, back=back)
            if lost is not None:
                self._note(_Displaced(lost.model, lost.seen, lost.context, told.kept))

    def _note(self, displaced: _Displaced) -> None:
        self._displaced.append(displaced)
        del self._displaced[:-_MOST]

    def _best(self, model: str, prompt: Trace) -> _Displaced | None:
        """The conversation of which most is gained; None if none goes on with the prompt."""
        found = [(gained(each.seen, prompt), n) for n, each in enumerate(self._displaced) if each.model == model]
        most, last = max(found, default=(0, 0))
        return self._displaced[last] if most else None
