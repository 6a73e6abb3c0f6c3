"""Charges of holds: their holders have what the processes take, not only what was promised."""

from __future__ import annotations

from collections.abc import Iterable

from lmxd.core.books.state import State
from lmxd.core.holders import Lease
from lmxd.core.words import DeviceId


def charge_holders(state: State, devices: Iterable[DeviceId]) -> None:
    """Let what the processes of holds take count for the quotas and use of their holders."""
    for account in (state.ledger.accounts[device] for device in devices if device in state.ledger.accounts):
        for name in account.reservations:
            instance = state.instances[name]
            for lease in instance.leases.values() if instance.ask.external else ():
                _resize(state, lease, state.ledger.most(name))


def _resize(state: State, lease: Lease, size: int) -> None:
    if size != lease.size:
        state.shares.give_back(lease.owner, lease.size, state.now, state.policy)
        lease.size = size
        state.shares.take(lease.owner, size, state.now, state.policy)
