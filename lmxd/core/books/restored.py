"""Taking over the promises of an earlier daemon: the ledger is the same again, to the byte."""

from __future__ import annotations

from lmxd.core.books.accounts import Account
from lmxd.core.books.parking import wait_for_place
from lmxd.core.books.sleeping import lie_down
from lmxd.core.books.state import State
from lmxd.core.books.yields import begin_yield
from lmxd.core.events import LedgerRestored
from lmxd.core.holders import Lease
from lmxd.core.words import DeviceId, Hold, Phase


def restored(state: State, event: LedgerRestored) -> None:
    """Take over instances, leases and yields. Holders have ``grace`` seconds to come back."""
    state.counts.update(event.counts)
    for name, known in state.expectations.means().items():
        known.update(event.means.get(name, {}))
    for instance in event.instances:
        for device in instance.demand:
            _account(state, device)
        instance.vacant_since = state.now
        state.add_instance(instance)
        if instance.phase is Phase.ASLEEP:
            lie_down(state, instance)
        elif not instance.live:
            state.retire(instance)
    state.ledger.accept()
    for lease in event.leases:
        state.add_lease(lease)
        state.expire(lease, _deadline(lease, state.now + event.grace))
        if lease.parked is not None:
            wait_for_place(state, lease, lease.parked)
        else:
            _spare(state, lease, event.grace)
    for device, id, kept in event.yields:
        begin_yield(state, _account(state, device), id, kept)


def _account(state: State, device: DeviceId) -> Account:
    """The account of a device. One that does not answer just now keeps the promises on it."""
    return state.ledger.accounts.setdefault(device, Account(device=device))


def _spare(state: State, lease: Lease, grace: float) -> None:
    """Have a lease's instance end as idle not before that grace is over: nobody could renew a lease for a while."""
    instance = state.instances[lease.instance]
    left = min(grace, instance.ask.idle_timeout)
    instance.active_at = max(instance.active_at, state.now + left - instance.ask.idle_timeout)


def _deadline(lease: Lease, grace: float) -> float | None:
    match lease.hold:
        case Hold.CONNECTION:
            return grace
        case Hold.TTL:
            return max(lease.expires_at or 0.0, grace)
        case Hold.EXPLICIT:
            return None
