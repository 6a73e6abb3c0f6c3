"""Pools: memory that several devices share, found out after instances were admitted to one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import DeviceId


def join_pools(state: State, devices: Iterable[DeviceId]) -> set[DeviceId]:
    """Have instances on ``devices`` draw from the pools of these, if they do not. Returns the pools that this changed.

    An earlier lmxd may have admitted them, or the driver of a device had not told its pool.
    """
    accounts, joined = state.ledger.accounts, set()
    for account in [accounts[device] for device in devices if device in accounts]:
        if account.pool is None or account.pool not in accounts:
            continue
        for instance in [state.instances[name] for name in account.reservations]:
            if account.pool not in instance.demand and account.reservations[instance.id].exited_at is None:
                _join(state, instance, account.pool)
                joined.add(account.pool)
    return joined


def _join(state: State, instance: Instance, pool: DeviceId) -> None:
    option, accounts = instance.option, state.ledger.accounts
    size = sum(need for device, need in option.demand.items() if device in accounts and accounts[device].pool == pool)
    instance.option = replace(option, demand={**option.demand, pool: size}, pools=(*option.pools, pool))
    state.ledger.reserve(instance.id, {pool: size})
    accounts[pool].accept()
    state.step.touched.instances.add(instance.id)
