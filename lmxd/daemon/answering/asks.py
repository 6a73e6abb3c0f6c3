"""What requests come to in the core's terms. What a ready instance serves promises no bytes: nothing is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.options import Room
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.core.books.state import State
from lmxd.core.events import AskChanged, Event
from lmxd.core.words import Ask, Phase
from lmxd.daemon.answering.answers import Waiting
from lmxd.daemon.answering.together import Together
from lmxd.daemon.present import Present
from lmxd.errors import LmxdError

FRESH: Final = 0.05
"""Seconds for which a reading is good enough to decide a request on: a storm of them shares one."""
_MOST: Final = 1024


class Asks:
    """Remembers what it made, for as long as the configuration is the same. Whoever needs bytes is looked at anew."""

    def __init__(
        self,
        state: State,
        present: Present,
        waiting: Mapping[str, Waiting],
        measure: Callable[[], Coroutine[Any, Any, None]],
        report: Callable[[Event], None],
    ) -> None:
        self._state = state
        self._present = present
        self._waiting = waiting
        self._measure = measure
        self._report = report
        self._catalog: Catalog | None = None
        self._made: dict[tuple[str, Size], Ask] = {}
        """By what ``_catalog`` says."""
        self._together = Together()

    async def prepare(self, model: str, size: Size) -> Ask:
        """What the core is to be asked, with all at hand to decide on it. LmxdError says what is wrong with it."""
        catalog = self._present.catalog
        if self._catalog is not catalog or len(self._made) >= _MOST:
            self._made.clear()
            self._catalog = catalog
        ask = self._made.get((model, size))
        if ask is None or not self._is_served(ask):
            resolved = await self.warm(model, size)
            self._present.require(resolved.sizing.kind)  # if it is missing, say so before anything is reserved
            ask = self._made[model, size] = self.ask(resolved)
        return ask

    async def warm(self, model: str, size: Size = Size()) -> Resolved:
        """Have a fresh reading and all about the model at hand, so that deciding takes microseconds.

        LmxdError ``unknown_model``.
        """
        if time.monotonic() - self._present.begun > FRESH:
            await self._together.do("measure", self._measure)
        resolved = self._present.catalog.resolve(model, size)
        if resolved.is_warm():
            return resolved
        await self._together.do((model, size), lambda: asyncio.to_thread(resolved.read))
        return self._present.catalog.resolve(model, size)  # it may be another catalog by now

    def ask(self, resolved: Resolved) -> Ask:
        """What the core is asked for by a request. LmxdError says what is wrong with it."""
        accounts = self._state.ledger.accounts
        room = Room(
            free={device: a.free for device, a in accounts.items()},
            ceiling={device: a.ceiling for device, a in accounts.items()},
        )
        return resolved.ask(self._present.kinds, room)

    def _is_served(self, ask: Ask) -> bool:
        """Whether a ready instance has a slot for it: then it has that, whoever else waits."""
        return any(i.phase is Phase.READY and i.serves(ask) for i in self._state.open.get(ask.kind, {}).values())

    def renew(self, most: int | None = None) -> None:
        """Devices or profiles changed, or how layers would be split: say again where what is waited for could go.

        ``most``: for so many of those in front.
        """
        queue = self._state.queue
        for ticket in queue.some(0, len(queue) if most is None else most):
            waiting = self._waiting[ticket.id]
            if waiting.size is None:
                continue  # a hold stays what it is
            try:
                ask = self.ask(self._present.catalog.resolve(waiting.ask.profile, waiting.size))
            except LmxdError:
                continue  # its start will fail and say why
            self._report(AskChanged(at=time.monotonic(), ticket=ticket.id, ask=ask))
