"""A client's request as a fleet sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lmxd.fleet.choosing.prospects import Sought


class AmongUsers(Protocol):
    """The place of a request among those of its user."""

    def asked(self, node: str, now: float) -> None:
        """A node is asked whether it serves it at once."""

    def waits_at(self, node: str, now: float) -> None:
        """It is to wait in a node's queue. LmxdError if its user may not have another there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedAnswer:
    """One request. ``user``: whose key; ``wait``: the most seconds in queues; ``since``: when it came, monotonic.

    ``place``: where its user has limits.
    """

    sought: Sought
    user: str | None
    wait: float | None
    since: float
    place: AmongUsers | None = None

    def left(self, now: float) -> float | None:
        """Seconds that it may still wait."""
        return None if self.wait is None else max(0.0, self.wait - (now - self.since))

    def asked(self, node: str, now: float) -> None:
        """A node is asked for it, or has it."""
        if self.place is not None:
            self.place.asked(node, now)

    def waits_at(self, node: str, now: float) -> None:
        """It is to wait in a node's queue. LmxdError if its user may not have another there."""
        if self.place is not None:
            self.place.waits_at(node, now)
