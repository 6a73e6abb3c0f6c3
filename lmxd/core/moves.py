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

    ``file``: a name that only the daemon understands. The instance may be gone then, which had ``spread``
    caches beside each other.
    """

    instance: InstanceId
    slot: int
    file: str = ""
    spread: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """A lease without an instance: its own has ended, and it waits for one as ``ask`` says.

    ``back``: what it had. ``carries``: the conversations that go along with it, on disk: its own; of an instance that
    shrinks all that lay there, for one of its leases. What is not among them is processed anew.
    """

    ask: Ask
    back: Ask
    carries: tuple[Carry, ...]

    @property
    def move(self) -> Move:
        """The reason why it moves."""
        has, had = (ask.tokens(ask.slots) for ask in (self.ask, self.back))
        if has == had:
            return Move.RETURNED
        return Move.SHRUNK if has < had else Move.GROWN
