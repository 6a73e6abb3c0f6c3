"""Times at which something is due: the next one in O(1), set and cleared in O(log n)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias


class AlarmKind(StrEnum):
    """The kind of thing that is due."""

    WAIT = "wait"
    """A request has waited as long as it would."""
    DEADLINE = "deadline"
    """The time within which a request must be granted is over."""
    LEASE = "lease"
    """A lease ends unless it is renewed, or its holder comes back."""
    YIELD = "yield"
    """The bytes of a yield may be used again."""
    SWAP = "swap"
    """An instance that is to make way takes no new requests, or has news for those who wait."""
    SHORT = "short"
    """A device was short of bytes for so long that something is done about it."""
    GRACE = "grace"
    """Holders who were asked to release their leases had their time."""
    RESIDENT = "resident"
    """A resident that failed to load may be tried again."""
    CARRY = "carry"
    """A conversation was on its way for so long that it is processed anew."""
    SLEEP = "sleep"
    """An instance that falls asleep has freed all that it will, or one has been asleep for as long as it may."""


Key: TypeAlias = tuple[AlarmKind, str]
"""The kind of thing that is due, and its id."""
_SPARE: Final = 1024
"""So many stale entries may be in the heap beside as many as there are keys: a client may move an alarm for ever."""


class Alarms:
    """A heap of times by key. Cleared and moved entries stay in the heap until they come up, or are too many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._times: dict[Key, float] = {}

    def set(self, key: Key, at: float) -> None:
        if self._times.get(key) != at:
            self._times[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._times) + _SPARE:
                self._heap = [(at, key) for key, at in self._times.items()]
                heapq.heapify(self._heap)

    def clear(self, key: Key) -> None:
        self._times.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        return key in self._times

    def __len__(self) -> int:
        """The entries of the heap, the stale ones included."""
        return len(self._heap)

    def next(self) -> float | None:
        self._shed()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Take out the keys that are due, earliest first. A key that is cleared meanwhile does not come up."""
        while (at := self.next()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._times[key]
            yield key

    def _shed(self) -> None:
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
