"""Superseding: one cache for all slots is too small, and a larger one has room, in which the next leases are."""

from __future__ import annotations

from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import Phase


def supersede(state: State, instance: Instance) -> None:
    """Have the smaller of the instances with one cache for all slots serve nobody any more, if a larger one has slots.

    Each has the weights once more. Who has a lease there keeps it as long as it lasts.
    """
    if not instance.ask.unified:
        return
    kin = [i for i in state.live_by_kind.get(instance.ask.kind, {}).values() if i.phase is Phase.READY]
    most = max((i.ask.spread for i in kin if i.accepts and i.shared and i.free_slots > 0), default=0)
    for other in kin:
        if other.ask.spread < most and not other.superseded and not other.ask.pin:
            other.superseded = True
            state.enliven(other)
