"""Moves: a lease goes to another instance, and its conversation goes along if it can be carried."""

from __future__ import annotations

from dataclasses import dataclass

from lmxd.core.words import InstanceId


@dataclass(frozen=True, kw_only=True, slots=True)
class Carry:
    """A conversation that moves: it lies in the cache of this slot of an instance."""

    instance: InstanceId
    slot: int
