"""Moves: a lease goes to another instance, and its conversation goes along if it can be carried."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lmxd.core.words import Ask, InstanceId


class Move(StrEnum):
    """The reason why a lease has moved."""

    GROWN = "grown"
    """It has more context."""
    SHRUNK = "shrunk"
    """Its instance gave back what it did not use."""
    RETURNED = "returned"
    """The instance that it was to have could not be had: it has as much context as before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Carry:
    """A conversation that moves: it lies in the cache of this slot of an instance; or in ``file``, if that is named.

    ``file``: a name that only the daemon understands. The instance may be gone then.
    """

    instance: InstanceId
    slot: int
    file: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """A lease without an instance: its own has ended, and it waits for one as ``ask`` says.

    ``back``: what it had. ``carry``: its conversation, on disk; None: it is processed anew.
    """

    ask: Ask
    back: Ask
    carry: Carry | None

    @property
    def move(self) -> Move:
        """The reason why it moves."""
        if self.ask.context == self.back.context:
            return Move.RETURNED
        return Move.SHRUNK if self.ask.context < self.back.context else Move.GROWN
