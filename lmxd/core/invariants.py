"""What must hold after every event. Checked by tests after each step and by ``lmxctl status`` on demand."""

from __future__ import annotations

from collections.abc import Iterator

from lmxd.core.state import State
from lmxd.core.words import Phase


def broken(state: State) -> list[str]:
    """One sentence for each invariant that does not hold."""
    return [*_promises(state), *_reservations(state), *_leases(state), *_queue(state)]


def _promises(state: State) -> Iterator[str]:
    if not state.enforce:
        return
    for account in state.ledger.accounts.values():
        promised = sum(r.promised for r in account.reservations.values())
        if account.capacity and promised > account.ceiling:
            yield f"{account.device}: {promised} bytes are promised of {account.ceiling}"


def _reservations(state: State) -> Iterator[str]:
    reserved = {i for a in state.ledger.accounts.values() for i in a.reservations}
    for orphan in reserved - state.instances.keys():
        yield f"{orphan} has a reservation but is not an instance"
    for instance in state.instances.values():
        held = {a.device for a in state.ledger.of(instance.id)}
        if instance.phase is not Phase.RECLAIMING and held != set(instance.demand):
            yield f"{instance.id} is {instance.phase} without its reservations"
        if instance.phase is Phase.RECLAIMING and not held:
            yield f"{instance.id} is reclaiming nothing"


def _leases(state: State) -> Iterator[str]:
    for instance in state.instances.values():
        if instance.leases and instance.phase is not Phase.READY:
            yield f"{instance.id} carries leases but is {instance.phase}"
        if instance.tickets and instance.phase is not Phase.STARTING:
            yield f"{instance.id} has tickets but is {instance.phase}"
        if instance.free_slots < 0:
            yield f"{instance.id} carries more than its {instance.ask.spread} slots"
    ids = [lease.id for lease in state.leases()]
    if len(ids) != len(set(ids)):
        yield "a lease is held twice"


def _queue(state: State) -> Iterator[str]:
    if len(state.queue) > state.queue_depth + 1:
        yield f"{len(state.queue)} tickets wait in a queue of {state.queue_depth}"
    for instance in state.instances.values():
        for both in instance.tickets.keys() & state.queue.keys():
            yield f"{both} waits and starts at once"
