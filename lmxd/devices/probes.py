"""The probes of the devices that are asked for: GPUs, and RAM where it is meant or where there is no GPU."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from lmxd.devices.choice import AliasProbe, choose, numbered
from lmxd.devices.driver_calls import PATIENT, DriverCalls
from lmxd.devices.drm.ioctls import Ioctl, kernel_ioctl
from lmxd.devices.drm.probe import DrmProbe
from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import HOST, Measurement, Probe
from lmxd.devices.nvml import NvmlProbe
from lmxd.devices.pool import PoolProbe
from lmxd.devices.roots import Roots


class DefaultProbe:
    """All discrete GPUs; those that share the machine's memory if there is none; RAM if there is no GPU at all.

    What there is may change while lmxd runs. A GPU that does not answer is a GPU: RAM never takes its place. One that
    was offered stays: there may be instances on it. ``ram``: RAM is one of the devices in any case.
    """

    def __init__(self, nvidia: NvmlProbe, others: Sequence[Probe], host: HostProbe, *, ram: bool) -> None:
        self._nvidia = nvidia
        self._others = others
        self._host = host
        self._ram = ram
        self._offered: set[str] = set()

    def measure(self, pids: Set[int]) -> list[Measurement]:
        gpus = numbered([found for probe in (self._nvidia, *self._others) for found in probe.measure(pids)])
        if gpus:
            self._offered |= {gpu.id for gpu in [gpu for gpu in gpus if gpu.pool is None] or gpus}
            offered = [gpu for gpu in gpus if gpu.id in self._offered]
            return [*offered, *self._host.measure(pids)] if self._ram else offered
        hint = f"no GPU ({self._nvidia.absent or 'none is found'}): models run in RAM, on the CPU"
        return [replace(found, hints=(*found.hints, hint)) for found in self._host.measure(pids)]

    def close(self) -> None:
        for probe in (self._nvidia, *self._others):
            probe.close()


def open_probes(
    refs: tuple[int | str, ...] | None,
    nvml: Any,
    roots: Roots = Roots(),
    ioctl: Ioctl = kernel_ioctl,
    calls: DriverCalls | None = None,
    *,
    ram: bool = False,
) -> list[Probe]:
    """The probes for the devices in ``refs`` (None: whatever there is, and with ``ram`` RAM in any case).

    ``nvml`` is the pynvml module or something that behaves like it. ``roots``: of the kernel's files. ``ioctl``: the
    system call, by which Intel's drivers are asked. ``calls``: those under way, which outlast the probes.
    """
    calls = calls or DriverCalls()
    host = HostProbe(roots.proc, roots.sys / "fs/cgroup", calls)
    if refs is None:
        others = (DrmProbe(None, roots=roots, ioctl=ioctl, calls=calls),)
        nvidia = NvmlProbe(nvml, None, roots=roots, calls=calls)
        return [PoolProbe([DefaultProbe(nvidia, others, host, ram=ram)], host)]
    chosen = choose((ref for ref in refs if ref != HOST), roots, ioctl, calls)
    probes: list[Probe] = []
    if chosen.nvidia:
        names = {str(asked): name for name, asked in chosen.nvidia.items()}
        probes.append(AliasProbe(NvmlProbe(nvml, tuple(chosen.nvidia.values()), roots=roots, calls=calls), names))
    if chosen.drm:
        probes.append(DrmProbe(chosen.drm, roots=roots, ioctl=ioctl, calls=calls))
    return [PoolProbe([*probes, host] if HOST in refs else probes, host)]


def measure_now(
    refs: tuple[int | str, ...] | None, nvml: Any, roots: Roots = Roots(), *, ram: bool = False
) -> list[Measurement]:
    """One look at the devices in ``refs``, for programs that take only one."""
    probes = open_probes(refs, nvml, roots, calls=DriverCalls(PATIENT), ram=ram)
    found = [found for probe in probes for found in probe.measure(set())]
    for probe in probes:
        probe.close()
    return found
