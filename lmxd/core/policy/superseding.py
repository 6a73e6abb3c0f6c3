"""Superseding: where all slots share one cache, a larger instance takes the place of a smaller one.

In: the live instances. Out: those marked as superseded. The rule: the larger has slots for others, and the smaller is
not pinned. Each has the weights once more, so that the smaller serves nobody any more. Who has a lease there keeps it.
"""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.words import Phase


def supersede(state: State) -> None:
    """Have the next leases be in the larger ones."""
    for kind, free in state.with_free_slots.items():
        larger = [i for i in free.values() if i.ask.unified and i.phase is Phase.READY and i.shared]
        for other in list(state.live_by_kind[kind].values()) if larger else ():
            if other.phase is not Phase.READY or other.superseded or other.ask.pin:
                continue
            other.superseded = any(i.is_like(other.ask) and i.ask.spread > other.ask.spread for i in larger)
            if other.superseded:
                state.enliven(other)
