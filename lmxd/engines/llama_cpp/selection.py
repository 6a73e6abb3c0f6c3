"""The selection of GPUs for a launch: how llama-server is told which cards it was admitted to.

Vulkan and SYCL number devices in an order of their own, which drivers, layers and the engine's user decide about. It is
looked up for each launch, by a program that runs as the engine will, and never guessed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmxd.accounts import SystemUser
from lmxd.devices import pci
from lmxd.engines.llama_cpp.asking import ask
from lmxd.engines.visibility import HIP_SHOWN, VULKAN_SHOWN, Gpu, by_cuda, by_rocm, shown
from lmxd.errors import LmxdError
from lmxd.estimate.backends import Backend

LISTED: Final = frozenset({Backend.VULKAN, Backend.SYCL})
"""The backends of which all devices have to be listed, which wakes those that sleep."""
_DEADLINE: Final = 20.0
"""Seconds to list the devices of a runtime: a card that sleeps takes a few to wake."""
_HERE: Final = Path(__file__).parent
_CPU: Final = 4
"""VK_PHYSICAL_DEVICE_TYPE_CPU: a driver that computes on the processor."""
_PREFERRED: Final = {3: 0, 4: 0, 6: 0, 2: 1}
"""VkDriverId of Mesa's for AMD, NVIDIA's own, Mesa's for Intel, then AMD's open one: as llama.cpp chooses where two
drivers have one card."""
_CHOSEN_DRIVERS: Final = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_LOADER_DRIVERS_SELECT")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeDevice:
    """A device as a runtime lists it. ``pci`` is empty if its driver does not tell."""

    name: str
    vendor: int
    kind: int
    driver: int
    pci: str


Lister = Callable[[Sequence[str], Mapping[str, str]], Sequence[RuntimeDevice]]
"""Lists the devices of a runtime: a program's name and arguments, and the environment that it gets."""


def selection(
    backend: Backend, gpus: Sequence[Gpu], env: Mapping[str, str], vulkan: str, lister: Lister
) -> dict[str, str]:
    """The variables that show a launch these GPUs and no others. LmxdError if the runtime does not have one of them.

    ``env``: what the engine gets otherwise; ``vulkan``: the loader that it opens.
    """
    if backend is Backend.CUDA:
        return shown(by_cuda(gpus))
    if backend is Backend.ROCM:
        if (found := by_rocm(gpus)) is None:
            raise _unseen(backend, gpus[0], (), "let the engine's user open /dev/kfd and /dev/dri (group render)")
        return shown(found, keep=HIP_SHOWN)
    if backend is Backend.SYCL:
        seen = lister(("level_zero_devices.py",), env)
        numbers = [_by_address(backend, gpu, seen) for gpu in gpus]
        return shown({"ONEAPI_DEVICE_SELECTOR": f"level_zero:{','.join(map(str, numbers))}"})
    seen = lister(("vulkan_devices.py", vulkan), env)
    asked_for = any(name in env for name in _CHOSEN_DRIVERS)
    numbers = [_of_vulkan(gpu, seen, software=asked_for and len(gpus) == 1) for gpu in gpus]
    return shown({"GGML_VK_VISIBLE_DEVICES": ",".join(map(str, numbers))}, keep=VULKAN_SHOWN)


def listing(account: SystemUser | None) -> Lister:
    """Lists by a program that runs as ``account`` (None: as we do), with a deadline."""

    def devices(program: Sequence[str], env: Mapping[str, str]) -> Sequence[RuntimeDevice]:
        words = [str(_HERE / program[0]), *program[1:]]
        if account is not None:
            groups = ",".join(map(str, account.groups))
            words = [str(_HERE / "as_user.py"), str(account.uid), str(account.gid), groups, *words]
        command = [sys.executable, "-I", "-S", *words]
        try:
            done = ask(command, env, _DEADLINE)
            said: list[dict[str, Any]] = json.loads(done.output) if done.status == 0 else []
            found = [RuntimeDevice(**device) for device in said]
        except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
            raise _unlisted(program, str(error)) from error
        if done.status < 0:
            raise _unlisted(program, done.last_error)
        return found

    return devices


def once(lister: Lister) -> Lister:
    """The same, asked once of each program: one that hangs does so for many cards."""
    said: dict[str, Sequence[RuntimeDevice] | LmxdError] = {}

    def devices(program: Sequence[str], env: Mapping[str, str]) -> Sequence[RuntimeDevice]:
        if program[0] not in said:
            try:
                said[program[0]] = lister(program, env)
            except LmxdError as error:
                said[program[0]] = error
        found = said[program[0]]
        if isinstance(found, LmxdError):
            raise found
        return found

    return devices


def _unlisted(program: Sequence[str], why: str) -> LmxdError:
    runtime = program[0].partition("_devices")[0]
    message = f"the devices of {runtime} cannot be listed: {why}"
    return LmxdError(
        "engine_missing",
        message,
        "look whether the card's driver works, or choose it with the environment of its engine (engine.environment)",
    )


def _by_address(backend: Backend, gpu: Gpu, seen: Sequence[RuntimeDevice]) -> int:
    """The number of the device at a GPU's address; of the only one of its vendor, if its driver tells no address."""
    here = [n for n, device in enumerate(seen) if device.pci and device.pci == pci.address(gpu.pci)]
    if here:
        return min(here, key=lambda n: _PREFERRED.get(seen[n].driver, 2))
    alike = [n for n, device in enumerate(seen) if device.kind != _CPU and device.vendor == pci.VENDOR_IDS[gpu.vendor]]
    if len(alike) == 1 and not seen[alike[0]].pci:
        return alike[0]
    driver = "install its driver for Vulkan (mesa-vulkan-drivers), " if backend is Backend.VULKAN else ""
    raise _unseen(backend, gpu, seen, f"{driver}let the engine's user open /dev/dri/renderD* (groups render and video)")


def _of_vulkan(gpu: Gpu, seen: Sequence[RuntimeDevice], *, software: bool) -> int:
    """The same. A driver that computes on the processor is taken only where it alone was asked for by name."""
    if software and len(seen) == 1 and seen[0].kind == _CPU:
        return 0
    return _by_address(Backend.VULKAN, gpu, seen)


def _unseen(backend: Backend, gpu: Gpu, seen: Sequence[RuntimeDevice], remedy: str) -> LmxdError:
    found = ", ".join(f"{device.name or 'a GPU'} {device.pci}".strip() for device in seen) or "no device"
    at = f" at {gpu.pci}" if gpu.pci not in ("", gpu.id) else ""
    message = f"llama-server cannot be told to use {gpu.id}{at}: its {backend} finds {found}"
    return LmxdError(
        "engine_missing",
        message,
        f"{remedy}, or choose its driver with the environment of its engine (engine.environment)",
    )
