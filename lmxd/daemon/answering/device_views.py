"""The accounts of devices as messages, and the bytes of instances by device. A pool's bytes are shown once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmxd.core.books.accounts import Account
from lmxd.core.books.ledger import Ledger
from lmxd.core.books.state import State
from lmxd.core.instances import Instance
from lmxd.core.words import DeviceId
from lmxd.daemon.readings import device_id
from lmxd.devices.measurement import Measurement
from lmxd.rpc.books import Device
from lmxd.rpc.holds import YieldInfo


def devices(state: State, measured: Sequence[Measurement]) -> list[Device]:
    """The account of each device, with its last measurement."""
    return [_device(state, found) for found in measured]


def _device(state: State, found: Measurement) -> Device:
    account = state.ledger.accounts.get(device_id(found), Account(device=device_id(found)))
    headroom = _headroom(state.ledger, account)
    return Device(
        id=found.id,
        ref=found.ref,
        kind=found.kind.value,
        name=found.name,
        capacity=account.capacity,
        reserved=found.reserved,
        margin=account.margin,
        limit=account.limit,
        used=account.used,
        lower_bound=found.lower_bound,
        foreign=account.foreign,
        charged=account.charged,
        reclaiming=account.reclaiming,
        yielded=account.yielded,
        yields=yields(state, [account]),
        headroom=headroom,
        pool=found.pool,
        beyond_pool=account.headroom - headroom,
        views=[view.device for view in state.ledger.views(account.device)],
        unavailable=found.unavailable,
        remedy=found.remedy,
    )


def yields(state: State, accounts: Iterable[Account]) -> list[YieldInfo]:
    """The yields of devices, those that end first at the beginning."""
    found = [
        YieldInfo(id=id, device=account.device, bytes=kept.size, ends_in=kept.until - state.now)
        for account in accounts
        for id, kept in account.yields.items()
    ]
    return sorted(found, key=lambda each: each.ends_in)


def _headroom(ledger: Ledger, account: Account) -> int:
    """The bytes that may be promised now: of a view, no more than its pool has."""
    pool = None if account.pool is None else ledger.accounts.get(account.pool)
    return account.headroom if pool is None else min(account.headroom, pool.headroom)


def charged(state: State, i: Instance) -> dict[DeviceId, int]:
    """The bytes that an instance is charged, by device."""
    return by_device(i, state.ledger.charge(i.id))


def promised(state: State, i: Instance) -> dict[DeviceId, int]:
    """The bytes that an instance was promised to run, by device; of one that slept, those of now, RAM included."""
    if not i.option.rests:
        return dict(i.option.devices)
    return by_device(i, {a.device: a.reservations[i.id].promised for a in state.ledger.of(i.id)})


def by_device(i: Instance, found: Mapping[DeviceId, int]) -> dict[DeviceId, int]:
    """Bytes of an instance by device, each once: without the pools."""
    return {device: size for device, size in found.items() if device not in i.option.pools}
