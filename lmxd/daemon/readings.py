"""Measurements turned into the core's readings: whose process is whose, and what the configuration allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Final

from lmxd.catalog.layout import Layout
from lmxd.config.schema import DeviceConfig, GpuConfig
from lmxd.config.section import GIB
from lmxd.core.books.accounts import Account
from lmxd.core.books.state import State
from lmxd.core.words import DeviceId, DeviceReading, InstanceId, Phase
from lmxd.daemon.attribution import taken
from lmxd.devices.measurement import HOST, MEMORY, DeviceKind, Measurement
from lmxd.devices.pool import still
from lmxd.devices.watcher import Look
from lmxd.text import device_name

_LEAST: Final = GIB // 2
_MOST: Final = 2 * GIB
"""Bytes of a GPU's margin. It is for what estimates miss, 1 % or 64 MiB of each instance, which grows with the card,
and for a stranger that comes, whose CUDA context alone is up to 0.6 GiB; no packing of large cards needed more."""


def device_readings(
    look: Look, gpu: GpuConfig, pids: Mapping[InstanceId, Set[int]], state: State
) -> tuple[DeviceReading, ...]:
    """One look at all devices in the core's terms."""
    accounts = state.ledger.accounts
    return tuple(
        device_reading(x, gpu, pids, settled(state, device_id(x), look.begun), accounts.get(device_id(x)))
        for x in look.measurements
    )


def with_pool(look: Look, state: State) -> Look:
    """A look with the pool for as long as anything has bytes of it, whether or not its GPUs answer."""
    account = state.ledger.accounts.get(DeviceId(MEMORY))
    if account is None or not account.reservations:
        return look
    return replace(look, measurements=still(look.measurements))


def device_id(found: Measurement) -> DeviceId:
    """The id of a measured device in the core's terms."""
    return DeviceId(found.id)


def pool_of(found: Measurement) -> DeviceId | None:
    """The id of the pool that a measured device draws from, in the core's terms."""
    return None if found.pool is None else DeviceId(found.pool)


def settled(state: State, device: DeviceId, begun: float) -> set[InstanceId]:
    """The instances of ours that had bytes on a device when a look at it began: they were ready.

    One that became so meanwhile may not be seen yet, which says nothing about the device.
    """
    ready = (i for i in state.instances.values() if i.phase is Phase.READY and (i.ready_at or 0.0) <= begun)
    return {i.id for i in ready if device in i.demand and not i.ask.external}


def tells_apart(state: State, measured: Sequence[Measurement], device: DeviceId) -> bool:
    """Returns whether a device says which bytes are whose, and says so of ours."""
    account = state.ledger.accounts.get(device)
    if account is None or any(m.id == device and m.processes is None for m in measured):
        return False
    return all(r.visible is not None for r in account.reservations.values())


def device_reading(
    found: Measurement,
    gpu: GpuConfig,
    pids: Mapping[InstanceId, Set[int]],
    ready: Set[InstanceId],
    account: Account | None = None,
) -> DeviceReading:
    """One device's measurement in the core's terms."""
    called = device_name(found.id, found.ref)
    if found.unavailable is not None:
        return DeviceReading(
            device=device_id(found),
            unavailable=found.unavailable,
            remedy=found.remedy,
            pool=pool_of(found),
            called=called,
        )
    allowed = _config_of(found, gpu)
    limit = None if allowed.max_memory_gb is None else int(allowed.max_memory_gb * GIB)
    return DeviceReading(
        device=device_id(found),
        capacity=found.capacity,
        used=found.used,
        margin=_margin(found, allowed, limit),
        limit=limit,
        lags=found.kind is not DeviceKind.HOST,
        pool=pool_of(found),
        views=(DeviceId(HOST),) if found.kind is DeviceKind.POOL else (),
        taken=taken(found, pids, ready, account),
        called=called,
    )


def _config_of(found: Measurement, gpu: GpuConfig) -> DeviceConfig:
    """The settings of a device. A pool has no limit, for each view has its own; its margin is the largest of theirs."""
    wanted = gpu.wanted() or ()
    if found.kind is DeviceKind.POOL:
        margins = [device.margin_gb for device in wanted if device.margin_gb is not None]
        return DeviceConfig(device=found.ref, margin_gb=max(margins, default=gpu.margin_gb))
    named = [device for device in wanted if str(device.device) == found.ref]
    return (*named, gpu.complete(DeviceConfig(device=found.ref)))[0]


def _margin(found: Measurement, allowed: DeviceConfig, limit: int | None) -> int:
    """The margin as configured; else a tenth of a GPU, from 0.5 to 2 GiB, and of RAM the larger of 1 GiB and 5 %.

    Never more than what a limit leaves. A GPU that shares a pool has none, for the pool has it. RAM keeps its own: the
    pool's may be in a carve-out.
    """
    if found.kind is DeviceKind.GPU and found.pool is not None:
        return 0
    if allowed.margin_gb is not None:
        return int(allowed.margin_gb * GIB)
    tenth, of_ram = found.capacity // 10, max(GIB, found.capacity // 20)
    default = min(max(tenth, _LEAST), _MOST) if found.kind is DeviceKind.GPU else of_ram
    return default if limit is None else min(default, max(0, found.capacity - limit))


def layout(measurements: Sequence[Measurement]) -> Layout:
    """The devices as launches are placed on them."""
    pools = {device_id(m): pool for m in measurements if (pool := pool_of(m)) is not None}
    return Layout({device_id(m): m.kind for m in measurements}, pools)
