"""A request, and the prospect that one node seems to have for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Standing(IntEnum):
    """How a node could serve a request, best first.

    ``READY``: a slot is vacant. ``FITS``: a new instance has room now, or one that loads will have a slot.
    ``MAKES_WAY``: instances that nobody uses would end for it. ``BESIDE``: bytes are free that the node's queue
    does not take, and that it may have if it puts off nobody there. ``WAITS``: it would stand in a queue that is there
    anyway, or that is for slots alone. ``BEGINS``: it would begin a queue, or make a long one longer.
    """

    READY = 0
    FITS = 1
    MAKES_WAY = 2
    BESIDE = 3
    WAITS = 4
    BEGINS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Sought:
    """A request as the choice sees it. ``session``: ``sessions.session_of``, or empty. ``ctx``: tokens of a slot."""

    model: str
    ctx: int = 0
    slots: int = 1
    session: str = ""


class Prospect(NamedTuple):
    """The chance that a request seems to have at one node.

    ``cost``: within a standing; bytes left over, bytes to end, or seconds. ``eta``: seconds until it would be served,
    with the load of its model. ``device``: where a new instance would take ``size`` bytes. ``joins``: an instance that
    loads will have a slot for it.
    """

    standing: Standing
    cost: float
    eta: float
    node: str
    device: str = ""
    size: int = 0
    joins: bool = False
