"""The open connections of a listener, and which of them goes when there are too many.

Everybody on the machine can connect. A connection without a key is a stranger's: there are few of them, and the oldest
goes for the newest, so that a client which asks at once is always heard. With a key it belongs to its caller.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Hashable
from typing import Final, Protocol

from lmxd.errors import LmxdError

log = logging.getLogger(__name__)
_KEPT: Final = 128
"""Descriptors that are kept for files, the daemon's socket and whatever else is open."""
_MOST: Final = 1024
"""Strangers at a time: a client that asks at once is one for some milliseconds, and hundreds may come together."""
_OF_REQUEST: Final = 3
"""Descriptors of a request, one of them until it is sent."""
_USUAL: Final = 1024
"""Descriptors of a process, where nobody says more."""
_QUIET: Final = 60.0
"""Seconds between two lines about the same."""


class Closable(Protocol):
    """A connection of a ``client``: an address or a uid. ``busy``: a request of it is being answered."""

    client: Hashable
    busy: bool

    def cut(self) -> None: ...


class Connections:
    """The open connections of a listener. ``strangers``, ``known``: the most without a caller, and with one.

    ``descriptors``: for all of them. What callers leave of these is for strangers, up to ``_MOST``: of hundreds that
    come at once, most have sent their key by the time that all are there.
    """

    def __init__(
        self, *, strangers: int, known: int, descriptors: int = 0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._least_strangers, self._most_known, self._descriptors, self._now = strangers, known, descriptors, now
        self._strangers: dict[Hashable, dict[Closable, None]] = {}
        self._known: dict[Hashable, dict[Closable, None]] = {}
        self._of: dict[Closable, Hashable] = {}
        """The caller of each that is known."""
        self._closed, self._said_at = 0, float("-inf")

    @classmethod
    def within(cls, descriptors: int) -> Connections:
        """As many as there are descriptors for."""
        strangers = min(_MOST, descriptors // 8)
        known = max(8, (descriptors - strangers - _KEPT) // _OF_REQUEST)
        return cls(strangers=strangers, known=known, descriptors=descriptors - _KEPT)

    def __len__(self) -> int:
        return self.strangers + len(self._of)

    @property
    def strangers(self) -> int:
        return sum(map(len, self._strangers.values()))

    @property
    def _most_strangers(self) -> int:
        return max(self._least_strangers, min(_MOST, self._descriptors - _OF_REQUEST * len(self._of)))

    def admit(self, connection: Closable) -> None:
        """Take in a new one. If it is one too many, the oldest goes of the client that has the most."""
        self._leave_room(1)
        self._strangers.setdefault(connection.client, {})[connection] = None

    def recognize(self, connection: Closable, caller: Hashable) -> None:
        """It is ``caller``'s. LmxdError ``too_many`` if that, or all together, have too many that are in use."""
        if self._of.get(connection, self) == caller:
            return
        mine = self._known.get(caller, {})
        if len(mine) >= self._most_known // 2:
            self._make_room(mine)
        elif len(self._of) >= self._most_known:
            self._make_room(max(self._known.values(), key=len))
        self.leave(connection)
        self._known.setdefault(caller, {})[connection] = None
        self._of[connection] = caller
        self._leave_room(0)

    def _leave_room(self, more: int) -> None:
        """Close the oldest strangers, of the client that has the most, until there may be so many more."""
        while self.strangers + more > self._most_strangers:
            largest = max(self._strangers.values(), key=len)
            self._close(next(iter(largest)))
            self._tell()

    def leave(self, connection: Closable) -> None:
        """Forget one that is closed."""
        caller = self._of.pop(connection, None)
        group, name = (self._strangers, connection.client) if caller is None else (self._known, caller)
        if (mine := group.get(name)) is not None:
            mine.pop(connection, None)
            if not mine:
                del group[name]

    def cut(self, which: Callable[[Closable], bool]) -> None:
        """End those that are meant, whatever is being answered there."""
        groups = (*self._strangers.values(), *self._known.values())
        for connection in [each for group in groups for each in group if which(each)]:
            self._close(connection)

    def _make_room(self, among: dict[Closable, None]) -> None:
        """Close the oldest that is not in use."""
        idle = next((x for x in among if not x.busy), None)
        if idle is None:
            raise LmxdError("too_many", f"{len(among)} requests are being answered, or wait", "ask again later")
        self._close(idle)

    def _close(self, connection: Closable) -> None:
        self.leave(connection)
        connection.cut()

    def _tell(self) -> None:
        """One line for many: it is others that decide how often this comes about."""
        self._closed += 1
        if self._now() - self._said_at >= _QUIET:
            most = f"more than {self._most_strangers} had sent no key"
            log.warning("connections closed because %s: %d since the last such line", most, self._closed)
            self._closed, self._said_at = 0, self._now()


def descriptors() -> int:
    """The descriptors that this process may have, after asking for as many as it may ask for."""
    found = _USUAL
    with contextlib.suppress(OSError, ValueError):  # a unit's filter may refuse either call
        found, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        found = hard
    return found
