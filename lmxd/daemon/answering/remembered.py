"""Memory of tickets, leases and instances by user: each user's are forgotten for newer ones of that user alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

V = TypeVar("V")
_MOST: Final = 2048
"""The most ids that are remembered of one user, beside those that live. A client asks soon, or never."""


class Remembered(Generic[V]):
    """Values by the id of a ticket, lease or instance. Each belongs to one user or several, or to none so far (None).

    A value is remembered until all its users have had so many newer ones. One whose id lives is never forgotten.
    """

    def __init__(self, lives: Callable[[str], bool], most: int = _MOST) -> None:
        """``lives``: whether there is such a ticket, lease or instance now."""
        self._lives = lives
        self._most = most
        self._values: dict[str, V] = {}
        self._ids: dict[int | None, OrderedDict[str, None]] = {}
        """The ids of each user, the oldest first."""
        self._holders: dict[str, int] = {}
        """The number of users to whom each id belongs."""

    def __contains__(self, id: str) -> bool:
        return id in self._values

    def get(self, id: str) -> V | None:
        return self._values.get(id)

    def put(self, id: str, user: int | None, value: V) -> None:
        """Remember a value, which belongs to ``user`` among others."""
        self._values[id] = value
        ids = self._ids.setdefault(user, OrderedDict())
        if id not in ids:
            ids[id] = None
            self._holders[id] = self._holders.get(id, 0) + 1
            self._forget_oldest(ids)

    def _forget_oldest(self, ids: OrderedDict[str, None]) -> None:
        """Forget the oldest of a user's ids that is over. Those that live are looked at again after the others."""
        for _ in range(len(ids) if len(ids) > self._most else 0):
            id, _none = ids.popitem(last=False)
            if self._lives(id):
                ids[id] = None
                continue
            self._holders[id] -= 1
            if not self._holders[id]:
                del self._holders[id], self._values[id]
            return
