"""The pool: memory that GPUs without their own and the programs in RAM share, as one more device.

A GPU says of itself that it is a view of the pool, and which bytes of its capacity are not in RAM: an APU's carve-out.
The kernel counts what a GPU has of RAM as unavailable, so that one look at RAM tells what is in use of both.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import MEMORY, DeviceKind, Measurement, Probe, ProcessUse


class PoolProbe:
    """Measures the devices of ``probes``, and the pool that some of them share.

    A GPU that does not answer is still the view that it was: what it has stays charged to the pool.
    """

    def __init__(self, probes: Sequence[Probe], ram: HostProbe) -> None:
        self._probes = probes
        self._ram = ram
        self._views: dict[str, Measurement] = {}
        """The last look at each GPU of the pool that it answered."""

    def measure(self, pids: Set[int]) -> list[Measurement]:
        found = [self._as_known(m) for probe in self._probes for m in probe.measure(pids)]
        self._views |= {m.id: m for m in found if m.pool is not None and m.unavailable is None}
        if all(m.pool is None for m in found):
            return found
        configured = [m for m in found if m.kind is DeviceKind.HOST]
        (ram,) = configured or self._ram.measure(pids)  # after the GPUs: a load between the two hides no foreign bytes
        gpus = [m for m in found if m.pool is not None]
        return [view_of_ram(m, gpus) if m.kind is DeviceKind.HOST else m for m in found] + [pool(ram, gpus)]

    def close(self) -> None:
        for probe in self._probes:
            probe.close()

    def _as_known(self, found: Measurement) -> Measurement:
        known = self._views.get(found.id)
        if known is None or found.unavailable is None:
            return found
        return replace(found, pool=known.pool, own=known.own)


def pool(ram: Measurement, gpus: Sequence[Measurement]) -> Measurement:
    """The pool of ``ram`` and the GPUs that share it. Their carve-outs are bytes of it, too."""
    return Measurement(
        id=MEMORY,
        ref=MEMORY,
        kind=DeviceKind.POOL,
        name="unified memory",
        capacity=ram.capacity + sum(gpu.own for gpu in gpus),
        used=ram.used + sum(gpu.own_used for gpu in gpus),
        processes=_together(ram, gpus),
        unavailable=ram.unavailable,
        remedy=ram.remedy,
    )


def still(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The same on a machine that is known to have a pool, though no GPU says so now: its driver is not there yet.

    What the GPUs have is among the bytes in use, and whose it is cannot be told.
    """
    ram = next((m for m in measurements if m.kind is DeviceKind.HOST), None)
    if ram is None or any(m.pool is not None for m in measurements):
        return tuple(measurements)
    viewed = [view_of_ram(m, ()) if m is ram else m for m in measurements]
    return (*viewed, replace(pool(ram, ()), processes=None))


def _together(ram: Measurement, gpus: Sequence[Measurement]) -> dict[int, ProcessUse] | None:
    """The bytes of processes in the pool; None where a GPU cannot tell them apart, or names some otherwise than /proc.

    Pages of mapped files do not count: the kernel takes them back, and of a model on the GPU they are a second copy.
    """
    on_gpus = _on_gpus(gpus)
    if ram.processes is None or on_gpus is None or any(gpu.partial for gpu in gpus):
        return None
    in_ram = {pid: use.visible for pid, use in ram.processes.items()}
    sizes = {pid: in_ram.get(pid, 0) + sum(x.total for x in on_gpus.get(pid, ())) for pid in in_ram | on_gpus}
    seen = {pid: in_ram.get(pid, 0) + sum(x.visible for x in on_gpus.get(pid, ())) for pid in sizes}
    return {pid: ProcessUse(total=size, visible=seen[pid]) for pid, size in sizes.items()}


def view_of_ram(ram: Measurement, gpus: Sequence[Measurement]) -> Measurement:
    """RAM as a view of the pool: without the bytes that the GPUs have of it, which are in use on them.

    So many of these stay in use here as are free in a carve-out, for the pool takes a GPU's bytes to fill that first.
    """
    of_gpus = _on_gpus(gpus) or {}
    answering = [gpu for gpu in gpus if gpu.unavailable is None]
    shared = sum(gpu.used - gpu.own_used for gpu in answering) - sum(gpu.own - gpu.own_used for gpu in answering)
    processes = (
        None if ram.processes is None else {pid: _beside(use, pid in of_gpus) for pid, use in ram.processes.items()}
    )
    return replace(ram, pool=MEMORY, used=max(0, ram.used - max(0, shared)), processes=processes)


def _beside(use: ProcessUse, has_gpu: bool) -> ProcessUse:
    """A process's use of RAM: of one on a GPU, mapped pages are a second copy of what it has there."""
    return replace(use, total=use.visible) if has_gpu else use


def _on_gpus(gpus: Sequence[Measurement]) -> dict[int, list[ProcessUse]] | None:
    """The uses of each process on the GPUs that answer; None if one of them cannot tell processes apart."""
    found: dict[int, list[ProcessUse]] = {}
    for gpu in gpus:
        if gpu.processes is None:
            return None
        for pid, use in gpu.processes.items():
            found.setdefault(pid, []).append(use)
    return found
