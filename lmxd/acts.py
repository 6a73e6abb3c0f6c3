"""Acts of others in the log: who did what, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lmxd.errors import LmxdError
from lmxd.throttle import Throttle

_ALARMING: Final = frozenset(("not_permitted", "internal"))


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who acts: their name in the log, and the key by which their refusals are counted."""

    name: str
    key: Hashable


class Acts:
    """Logs each act with its outcome. What costs nothing, as a refusal, is bounded; a line counts the rest."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._bound = Throttle()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def act(self, actor: Actor, what: str, *, quiet: bool = False) -> Iterator[None]:
        """Log what comes of the block. ``quiet``: its success is logged elsewhere, or is no news."""
        try:
            yield
        except LmxdError as error:
            self.refused(actor, f"{what}: {error.message}", error.code)
            raise
        except asyncio.CancelledError:
            self.refused(actor, f"{what}: nobody waits for the answer any more", "cancelled")
            raise
        except Exception:
            self.refused(actor, what, "internal")
            raise
        self._log.log(logging.DEBUG if quiet else logging.INFO, "%s done: %s", actor.name, what)

    def refused(self, actor: Actor, what: str, code: str) -> None:
        """Log a refusal."""
        if self._passes(actor):
            level = logging.WARNING if code in _ALARMING else logging.INFO
            self._log.log(level, "%s refused (%s): %s", actor.name, code, what)

    def repeatable(self, actor: Actor, what: str) -> None:
        """Log an act that costs nothing to repeat, within the bounds of refusals."""
        if self._passes(actor):
            self._log.info("%s done: %s", actor.name, what)

    def _passes(self, actor: Actor) -> bool:
        now = time.monotonic()
        self._count_left_out(self._bound.due(now))
        if self._bound.passes(actor.key, now):
            return True
        if self._timer is None:
            wait = max(0.0, self._bound.ends - now)
            self._timer = asyncio.get_running_loop().call_later(wait, self.end)
        return False

    def end(self) -> None:
        """Count what was left out until now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._count_left_out(self._bound.end())

    def _count_left_out(self, found: dict[Hashable, int]) -> None:
        for key, count in found.items():
            self._log.warning("%s: %d more in a minute are not listed", "others" if key is None else key, count)
