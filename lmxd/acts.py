"""Acts of others in the log: who did what, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lmxd.errors import LmxdError
from lmxd.throttle import Throttle, ThrottledLines

_ALARMING: Final = frozenset(("not_permitted", "internal"))
MOST_DONE: Final = 600
"""Lines a minute about what one actor did: two hundred leases with their ends."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who acts: their name in the log, and the key by which their refusals are counted."""

    name: str
    key: Hashable


class Acts:
    """Logs each act with its outcome, within bounds for each actor; a line counts the rest.

    The bound of refusals, which cost nothing, is narrow. That of what was done is wide, and apart from it.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._refusals = ThrottledLines(Throttle(), self._count_refusals)
        self._done = ThrottledLines(Throttle(MOST_DONE, together=10 * MOST_DONE), self._count_done)

    @contextmanager
    def act(self, actor: Actor, what: Callable[[], str], *, quiet: bool = False) -> Iterator[None]:
        """Log what comes of the block, in the words of ``what``. ``quiet``: success is logged elsewhere, or no news."""
        try:
            yield
        except LmxdError as error:
            self.refused(actor, f"{what()}: {error.message}", error.code)
            raise
        except asyncio.CancelledError:
            self.refused(actor, f"{what()}: nobody waits for the answer any more", "cancelled")
            raise
        except Exception:
            self.refused(actor, what(), "internal")
            raise
        if not quiet:
            self.came(actor.key, lambda: f"{actor.name} done: {what()}")
        elif self._log.isEnabledFor(logging.DEBUG):
            self._log.debug("%s done: %s", actor.name, what())

    def came(self, key: Hashable, line: Callable[[], str]) -> None:
        """Log what came of the acts of one actor, as a grant did. The line is made if it is within their bound."""
        if self._done.passes(key):
            self._log.info("%s", line())

    def refused(self, actor: Actor, what: str, code: str) -> None:
        """Log a refusal."""
        if self._refusals.passes(actor.key):
            level = logging.WARNING if code in _ALARMING else logging.INFO
            self._log.log(level, "%s refused (%s): %s", actor.name, code, what)

    def repeatable(self, actor: Actor, what: str) -> None:
        """Log an act that costs nothing to repeat, within the bounds of refusals."""
        if self._refusals.passes(actor.key):
            self._log.info("%s done: %s", actor.name, what)

    def end(self) -> None:
        """Count what was left out until now."""
        self._refusals.end()
        self._done.end()

    def _count_refusals(self, key: Hashable, count: int) -> None:
        self._log.warning("%s: %d more in a minute are not listed", "others" if key is None else key, count)

    def _count_done(self, key: Hashable, count: int) -> None:
        self._log.warning(
            "%s: %d more that were done in a minute are not listed", "others" if key is None else key, count
        )
