"""Measurements turned into the core's readings: whose process is whose, and what the configuration allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

from lmxd.config.schema import DeviceConfig, GpuConfig
from lmxd.config.section import GIB
from lmxd.core.books.state import State
from lmxd.core.words import DeviceId, DeviceReading, InstanceId, Phase, Taken
from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import HOST, DeviceKind, Measurement, Probe
from lmxd.devices.nvml import NoGpu, NvmlProbe
from lmxd.devices.watcher import Look
from lmxd.estimate.backends import Backend, for_vendor
from lmxd.estimate.cards import card_of
from lmxd.estimate.learned import Card


def open_probes(gpu: GpuConfig, nvml: Any) -> tuple[list[Probe], list[str]]:
    """The probes for the devices wanted, and warnings. RAM takes their place if NVML finds no GPU."""
    wanted = gpu.wanted()
    if wanted is not None and all(d.device == HOST for d in wanted):
        return [HostProbe()], []
    refs = None if wanted is None else tuple(d.device for d in wanted if d.device != HOST)
    probe = NvmlProbe(nvml, refs)
    try:
        probe.look()
    except NoGpu as why:
        asked = f"gpu.device {', '.join(map(str, refs))} cannot be had" if refs else "no GPU"
        return [HostProbe()], [f"{asked} ({why}): models run in RAM, on the CPU"]
    if wanted is not None and any(d.device == HOST for d in wanted):
        return [probe, HostProbe()], []
    return [probe], []


def device_readings(
    look: Look, gpu: GpuConfig, pids: Mapping[InstanceId, Set[int]], state: State
) -> tuple[DeviceReading, ...]:
    """One look at all devices in the core's terms."""
    return tuple(device_reading(x, gpu, pids, settled(state, device_id(x), look.begun)) for x in look.measurements)


def device_id(found: Measurement) -> DeviceId:
    """The id of a measured device in the core's terms."""
    return DeviceId(found.id)


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
    found: Measurement, gpu: GpuConfig, pids: Mapping[InstanceId, Set[int]], ready: Set[InstanceId]
) -> DeviceReading:
    """One device's measurement in the core's terms."""
    if found.unavailable is not None:
        return DeviceReading(device=device_id(found), unavailable=found.unavailable)
    allowed = _config_of(found, gpu)
    limit = None if allowed.max_memory_gb is None else int(allowed.max_memory_gb * GIB)
    return DeviceReading(
        device=device_id(found),
        capacity=found.capacity,
        used=found.used,
        margin=_margin(found, allowed, limit),
        limit=limit,
        lags=found.kind is DeviceKind.GPU,
        taken=_taken(found, pids, ready),
    )


def _config_of(found: Measurement, gpu: GpuConfig) -> DeviceConfig:
    """The settings of a device. RAM in the place of a GPU that cannot be had inherits those of that GPU."""
    wanted = gpu.wanted() or ()
    named = [device for device in wanted if str(device.device) == found.ref]
    return (*named, *wanted, gpu.complete(DeviceConfig(device=found.ref)))[0]


def _margin(found: Measurement, allowed: DeviceConfig, limit: int | None) -> int:
    """The margin as configured; else 2 GiB of a GPU, of RAM the larger of 1 GiB and 5 %, within what a limit leaves."""
    if allowed.margin_gb is not None:
        return int(allowed.margin_gb * GIB)
    default = 2 * GIB if found.kind is DeviceKind.GPU else max(GIB, found.capacity // 20)
    return default if limit is None else min(default, max(0, found.capacity - limit))


def _taken(
    found: Measurement, pids: Mapping[InstanceId, Set[int]], ready: Set[InstanceId]
) -> dict[InstanceId, Taken] | None:
    """Bytes by instance; None where they cannot be told apart.

    In a container NVML names the host's pids: a ready instance then has none that are known.
    """
    if found.processes is None:
        return None
    taken = {}
    for instance, mine in pids.items():
        uses = [found.processes[pid] for pid in mine if pid in found.processes]
        if uses:
            taken[instance] = Taken(total=sum(u.total for u in uses), visible=sum(u.visible for u in uses))
    if found.kind is DeviceKind.GPU and any(instance not in taken for instance in ready):
        return None
    return taken


def kinds(measurements: Sequence[Measurement]) -> dict[DeviceId, DeviceKind]:
    return {device_id(m): m.kind for m in measurements}


def cards(
    measurements: Sequence[Measurement], build: str, backends: Collection[Backend] | None
) -> dict[DeviceId, Card]:
    """The GPUs, as the estimator knows them. ``backends``: of the engine's build; None if they are not known."""
    return {
        device_id(m): card_of(
            m.name,
            driver=m.driver,
            build=build,
            vendor=m.vendor,
            chip=(m.cores, m.compute),
            backend=for_vendor(backends, m.vendor),
        )
        for m in measurements
        if m.kind is DeviceKind.GPU
    }
