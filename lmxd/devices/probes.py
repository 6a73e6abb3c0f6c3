"""The probes of the devices that are asked for: GPUs, and RAM where it is meant or where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import HOST, Probe
from lmxd.devices.nvml import NoGpu, NvmlProbe


def open_probes(
    refs: tuple[int | str, ...] | None, nvml: Any, sys: Path = Path("/sys"), proc: Path = Path("/proc")
) -> tuple[list[Probe], list[str]]:
    """The probes for the devices in ``refs`` (None: whatever there is), and warnings.

    ``nvml`` is the pynvml module or something that behaves like it; ``sys`` and ``proc``: the roots of the kernel's
    files.
    """
    host = HostProbe(proc, sys / "fs/cgroup")
    gpus = None if refs is None else tuple(ref for ref in refs if ref != HOST)
    if gpus == ():
        return [host], []
    probe = NvmlProbe(nvml, gpus)
    try:
        probe.look()
    except NoGpu as why:
        asked = f"gpu.device {', '.join(map(str, gpus))} cannot be had" if gpus else "no GPU"
        return [host], [f"{asked} ({why}): models run in RAM, on the CPU"]
    return [probe, host] if refs is not None and HOST in refs else [probe], []
