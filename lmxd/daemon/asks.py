"""What requests come to in the core's terms. What a ready instance serves promises no bytes: nothing is measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from lmxd.core import events as e
from lmxd.core.words import Ask, Phase
from lmxd.daemon.catalog import Catalog, Size
from lmxd.errors import LmxdError

if TYPE_CHECKING:
    from lmxd.daemon.loop import Daemon

_MOST: Final = 1024


class Asks:
    """Remembers what it made, for as long as the configuration is the same. Whoever needs bytes is looked at anew."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._catalog: Catalog | None = None
        self._made: dict[tuple[str, Size], Ask] = {}
        """By what ``_catalog`` says."""

    async def prepare(self, model: str, size: Size) -> Ask:
        """What the core is to be asked, with all at hand to decide on it. LmxdError says what is wrong with it."""
        daemon = self._daemon
        if self._catalog is not daemon.catalog or len(self._made) >= _MOST:
            self._made.clear()
            self._catalog = daemon.catalog
        ask = self._made.get((model, size))
        if ask is None or not self._is_served(ask):
            await daemon.warm(model, size)
            if daemon.catalog.profile(model).command is None:
                daemon.engine.binary()  # if it is missing, say so before anything is reserved
            ask = self._made[model, size] = daemon.ask(model, size)
        return ask

    def _is_served(self, ask: Ask) -> bool:
        """Whether a ready instance has a slot for it: then it has that, whoever else waits."""
        state = self._daemon.admission.state
        return any(i.phase is Phase.READY and i.serves(ask) for i in state.open.get(ask.kind, {}).values())

    def renew(self, most: int | None = None) -> None:
        """Devices or profiles changed, or how layers would be split: say again where what is waited for could go.

        ``most``: for so many of those in front.
        """
        daemon = self._daemon
        queue = daemon.admission.state.queue
        for ticket in queue.some(0, len(queue) if most is None else most):
            waiting = daemon.answers.waiting[ticket.id]
            if waiting.size is None:
                continue  # a hold stays what it is
            try:
                ask = daemon.ask(waiting.ask.profile, waiting.size)
            except LmxdError:
                continue  # its start will fail and say why
            daemon.handle(e.AskChanged(at=time.monotonic(), ticket=ticket.id, ask=ask))
