"""Superseding: where all slots share one cache, a larger instance takes the place of a smaller one.

In: the live instances. Out: those marked as superseded. The rule: the larger has slots for others, and the smaller is
not pinned. Each has the weights once more, so that the smaller serves nobody any more. Who has a lease there keeps it.
"""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.words import Phase


def supersede(state: State) -> None:
    """Have the next leases be in the larger ones."""
    for kin in state.live_by_kind.values():
        ready = [i for i in kin.values() if i.ask.unified and i.phase is Phase.READY] if len(kin) > 1 else ()
        open_ones = [i for i in ready if i.accepts and i.shared and i.free_slots > 0]
        for other in ready:
            if other.superseded or other.ask.pin:
                continue
            other.superseded = any(i.is_like(other.ask) and i.ask.spread > other.ask.spread for i in open_ones)
            if other.superseded:
                state.enliven(other)
