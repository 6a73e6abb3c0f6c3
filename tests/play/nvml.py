"""NVML as a file of answers plays it: each call's result, or the code that it fails with."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from devices.fake_nvml import NVMLError

Answers = Mapping[str, Any]

_SUCCESS: Final = 0
_NOT_FOUND: Final = 6
_FUNCTION_NOT_FOUND: Final = 13
_LIBRARY_NOT_FOUND: Final = 12


class PlayedNvml:
    """Behaves like the pynvml module. ``path``: a file such as device-samples have; without it there is no NVML.

    The file is read at each call, so that a machine may change while it is looked at. A call that it does not have is
    one that the driver does not know; one of which it says ``"hangs": true`` never comes back.
    """

    NVMLError = NVMLError
    nvmlMemory_v2 = 0x2000028

    def __init__(self, path: Path) -> None:
        self._path = path

    def nvmlInit(self) -> None:
        _raised(self._said().get("init", {}))

    def nvmlShutdown(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return str(self._said().get("driver", ""))

    def nvmlDeviceGetCount(self) -> int:
        return len(self._devices())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[int, ...]:
        _raised(self._devices()[index].get("handle", {}))
        return (index,)

    def nvmlDeviceGetUUID(self, handle: tuple[int, ...]) -> str:
        return str(self._device(handle).get("uuid") or f"GPU-{handle[0]:08x}-0000-0000-0000-000000000000")

    def nvmlDeviceGetName(self, handle: tuple[int, ...]) -> str:
        return str(self._device(handle)["name"])

    def nvmlDeviceGetPciInfo(self, handle: tuple[int, ...]) -> SimpleNamespace:
        return SimpleNamespace(busId=self._device(handle).get("pci", f"00000000:{handle[0] + 1:02x}:00.0"))

    def nvmlDeviceGetNumGpuCores(self, handle: tuple[int, ...]) -> int:
        return int(self._value(handle, "cores"))

    def nvmlDeviceGetCudaComputeCapability(self, handle: tuple[int, ...]) -> tuple[int, int]:
        major, minor = self._value(handle, "compute")
        return major, minor

    def nvmlDeviceGetMigMode(self, handle: tuple[int, ...]) -> tuple[int, int]:
        if "slices" not in self._device(handle):
            raise NVMLError(3)
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: tuple[int, ...]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: tuple[int, ...], number: int) -> tuple[int, ...]:
        if number >= len(self._device(handle)["slices"]):
            raise NVMLError(_NOT_FOUND)
        return (*handle, number)

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[int, ...], version: int | None = None) -> SimpleNamespace:
        said = self._answer(handle, "memory_v1" if version is None else "memory_v2")
        return SimpleNamespace(**{"reserved": 0, "free": said["total"] - said["used"], **said})

    def nvmlDeviceGetComputeRunningProcesses(self, handle: tuple[int, ...]) -> list[SimpleNamespace]:
        return _listed(self._answer(handle, "compute_processes_v3"))

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: tuple[int, ...]) -> list[SimpleNamespace]:
        return _listed(self._answer(handle, "graphics_processes_v3"))

    def _said(self) -> Answers:
        try:
            found: Answers = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {"init": {"rc": _LIBRARY_NOT_FOUND}, "devices": []}
        return found

    def _devices(self) -> list[Answers]:
        return list(self._said()["devices"])

    def _device(self, handle: tuple[int, ...]) -> Answers:
        found = self._devices()[handle[0]]
        _raised(found.get("handle", {}))
        for number in handle[1:]:
            found = found["slices"][number]
        return found

    def _value(self, handle: tuple[int, ...], name: str) -> Any:
        found = self._device(handle)
        if name not in found:
            raise NVMLError(_FUNCTION_NOT_FOUND)
        return found[name]

    def _answer(self, handle: tuple[int, ...], name: str) -> Answers:
        return _raised(self._device(handle).get(name, {"rc": _FUNCTION_NOT_FOUND}))


def _raised(said: Answers) -> Answers:
    if said.get("hangs"):
        threading.Event().wait()
    if said.get("rc", _SUCCESS) != _SUCCESS:
        raise NVMLError(said["rc"])
    return {key: value for key, value in said.items() if key != "rc"}


def _listed(said: Answers) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=row["pid"], usedGpuMemory=row["used"]) for row in said["list"]]
