"""NVIDIA GPUs through NVML: memory v2 (reserved kept apart), per-process use, UUIDs.

Faults are states of a device, not exceptions: a driver that no longer matches its library
or a GPU that fell off the bus makes its devices ``unavailable``. NVML is then closed and
opened again, at first after a second, later once a minute, until it answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from contextlib import suppress
from typing import Any

from lmxd.devices.measurement import DeviceKind, Measurement, ProcessUse, agreed

_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
"""Seconds before NVML is opened again after a fault: doubled each time, up to the second figure."""
_LOOKS = 3
"""Tries to read a device while its processes stay the same. After the last, only bytes that were there before and
after count as theirs."""


class NoGpu(Exception):
    """This machine has no NVIDIA GPU: no NVML library, no driver, or no device. The message says which."""


class NvmlProbe:
    """Measures the GPUs in ``refs``: index, UUID or PCI id, as configured; None for all.

    ``nvml`` is the pynvml module or something that behaves like it.
    """

    def __init__(
        self, nvml: Any, refs: tuple[int | str, ...] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nvml = nvml
        self._refs = refs
        self._clock = clock
        self._handles: dict[str, Any] | None = None
        self._known: dict[str, Measurement] = {}
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY
        self._fault = ""
        self._driver = ""

    def look(self) -> None:
        """Open NVML for the first time. Raises NoGpu if there is none; a fault that can pass is kept instead."""
        try:
            self._open()
        except self._nvml.NVMLError as error:
            if error.value in (self._nvml.NVML_ERROR_LIBRARY_NOT_FOUND, self._nvml.NVML_ERROR_DRIVER_NOT_LOADED):
                raise NoGpu(str(error)) from error
            self._close(str(error))
            return
        if not self._handles and self._refs is None:
            raise NoGpu("NVML finds no GPU")

    def measure(self, pids: Set[int]) -> list[Measurement]:
        if self._handles is None:
            if self._clock() < self._retry_at:
                return self._all_unavailable(self._fault)
            try:
                self._open()
            except self._nvml.NVMLError as error:
                self._close(str(error))
                return self._all_unavailable(self._fault)
        assert self._handles is not None
        measured = [self._one(ref, handle) for ref, handle in self._handles.items()]
        faults = [m.unavailable for m in measured if m.unavailable and self._handles[m.ref] is not None]
        if faults:
            self._close(faults[0])
        else:
            self._retry_after = _FIRST_RETRY
        return measured

    def _open(self) -> None:
        self._nvml.nvmlInit()
        refs: tuple[int | str, ...] = self._refs or tuple(range(self._nvml.nvmlDeviceGetCount()))
        self._driver = str(self._nvml.nvmlSystemGetDriverVersion())
        self._handles = {}
        for ref in refs:
            handle = self._handle(ref)
            self._handles |= self._slices(handle) or {str(ref): handle}

    def _slices(self, handle: Any | None) -> dict[str, Any]:
        """The MIG slices of a GPU that is divided, by UUID: they are the devices, and the GPU is none."""
        if handle is None:
            return {}
        found: dict[str, Any] = {}
        try:
            if not self._nvml.nvmlDeviceGetMigMode(handle)[0]:
                return {}
            for number in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with suppress(self._nvml.NVMLError):  # there are fewer than there could be
                    slice = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                    found[str(self._nvml.nvmlDeviceGetUUID(slice))] = slice
        except self._nvml.NVMLError:
            return {}  # a kind of GPU that cannot be divided, or a slice already
        return found

    def _close(self, fault: str) -> None:
        self._fault, self._handles = fault, None
        self._retry_at = self._clock() + self._retry_after
        self._retry_after = min(2 * self._retry_after, _LAST_RETRY)
        with suppress(self._nvml.NVMLError):  # it was not open
            self._nvml.nvmlShutdown()

    def _handle(self, ref: int | str) -> Any | None:
        """The handle of a GPU; None if there is no such GPU; NVMLError for anything else."""
        try:
            if isinstance(ref, int):
                return self._nvml.nvmlDeviceGetHandleByIndex(ref)
            if ref.startswith(("GPU-", "MIG-")):
                return self._nvml.nvmlDeviceGetHandleByUUID(ref)
            return self._nvml.nvmlDeviceGetHandleByPciBusId(ref)
        except self._nvml.NVMLError as error:
            if error.value in (self._nvml.NVML_ERROR_INVALID_ARGUMENT, self._nvml.NVML_ERROR_NOT_FOUND):
                return None
            raise

    def _one(self, ref: str, handle: Any | None) -> Measurement:
        if handle is None:
            count = len(self._handles or ())
            return self._unavailable(ref, f"there is no GPU {ref} on this machine ({count} configured)")
        try:
            memory, processes = self._figures(handle)
            known = self._known.get(ref)
            measurement = Measurement(
                id=known.id if known else self._nvml.nvmlDeviceGetUUID(handle),
                ref=ref,
                kind=DeviceKind.GPU,
                name=known.name if known else self._nvml.nvmlDeviceGetName(handle),
                driver=self._driver,
                capacity=memory.total - memory.reserved,
                reserved=memory.reserved,
                used=memory.used,
                processes=processes,
            )
        except self._nvml.NVMLError as error:
            return self._unavailable(ref, f"NVML: {error}")
        self._known[ref] = measurement
        return measurement

    def _figures(self, handle: Any) -> tuple[Any, dict[int, ProcessUse] | None]:
        """The device's memory, and the processes': two calls, between which a load may have gone on.

        Looked at again until nothing did; if something always does, what is certain.
        """
        before = self._processes(handle)
        for _ in range(_LOOKS):
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2)
            after = self._processes(handle)
            if before is None or after is None or before == after:
                return memory, after
            found, before = agreed(before, after), after
        return memory, found

    def _processes(self, handle: Any) -> dict[int, ProcessUse] | None:
        """Bytes by pid; None where NVML does not say them (WSL, some MIG set-ups)."""
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_SUPPORTED:
                return None
            raise
        if any(p.usedGpuMemory is None for p in running):
            return None
        return {p.pid: ProcessUse(total=p.usedGpuMemory, visible=p.usedGpuMemory) for p in running}

    def _all_unavailable(self, fault: str) -> list[Measurement]:
        refs = [str(ref) for ref in self._refs] if self._refs else list(self._known) or ["gpu"]
        return [self._unavailable(ref, fault) for ref in refs]

    def _unavailable(self, ref: str, why: str) -> Measurement:
        known = self._known.get(ref)
        return Measurement(
            id=known.id if known else ref,
            ref=ref,
            kind=DeviceKind.GPU,
            name=known.name if known else "GPU",
            unavailable=why,
        )
