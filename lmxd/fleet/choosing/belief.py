"""A heartbeat as far as it is believed: its node says what users have there, and by that they are held to their limits.

No user is believed to have what its node has not. So a node that lies about users has to lie about itself, too, which
everybody sees: its memory, its slots and its queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final

import msgspec

from lmxd.fleet.reports import Heartbeat, UserUse

_LONGEST: Final = 30 * 86400.0 / log(2)
"""Seconds of all memory that recent use may come to: whoever held B bytes for ever has B * half-life / ln 2.

Thirty days are the longest half-life that counts whole.
"""


def believable(beat: Heartbeat) -> Heartbeat:
    """The heartbeat, in which all users together have no more bytes, leases and requests than the node has itself."""
    if not beat.users:
        return beat
    said = list(beat.users.values())
    capacity = sum(room.capacity for room in beat.rooms if not room.pool)
    use = min(1.0, capacity * _LONGEST / max(1.0, sum(x.use for x in said)))
    size = _believed([x.bytes for x in said], capacity)
    leases = _believed([x.leases for x in said], sum(x.slots for x in beat.running))
    waiting = _believed([x.waiting for x in said], beat.waiting)
    users = {
        name: UserUse(use=x.use * use, bytes=size[n], leases=leases[n], waiting=waiting[n])
        for n, (name, x) in enumerate(beat.users.items())
    }
    return msgspec.structs.replace(beat, users=users)


def _believed(said: Sequence[int], most: int) -> Sequence[int]:
    """Figures of which each is less by the same part, if together they are more than ``most``."""
    total = sum(said)
    return said if total <= most else [each * most // total for each in said]
