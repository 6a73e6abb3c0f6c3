"""The faults that NVML tells of, and what each wants of the machine's owner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from lmxd.devices.pci import PciGpu

UNINITIALIZED: Final = 1
INVALID_ARGUMENT: Final = 2
NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
NOT_FOUND: Final = 6
DRIVER_NOT_LOADED: Final = 9
TIMEOUT: Final = 10
LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
RESET_REQUIRED: Final = 16
VERSION_MISMATCH: Final = 18
ARGUMENT_VERSION: Final = 25
GPU_NOT_FOUND: Final = 28
UNKNOWN: Final = 999
"""NVML's return codes, which never change."""

GONE: Final = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH})
"""Codes that say of a card that nothing else of it can be believed, whichever call gave them."""
ABSENT: Final = frozenset({DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_NOT_FOUND})
"""Codes that a machine without any NVIDIA card has, too."""

_REMEDIES: Final = {
    NO_PERMISSION: "let lmxd open /dev/nvidia*: add its user to the group that they belong to (ls -l /dev/nvidia*); "
    "in a container, give it the GPUs (--gpus all)",
    8: "connect the card's power cables",
    DRIVER_NOT_LOADED: "load NVIDIA's driver (modprobe nvidia; dmesg says why if that fails)",
    TIMEOUT: "see dmesg (Xid), end what uses the card, then nvidia-smi --gpu-reset; if that hangs too, reboot (other "
    "devices go on meanwhile)",
    LIBRARY_NOT_FOUND: "install the driver's library libnvidia-ml.so.1; in a container, give it the GPUs (--gpus all)",
    FUNCTION_NOT_FOUND: "update NVIDIA's driver: it is too old",
    GPU_IS_LOST: "the card fell off the bus (dmesg | grep Xid): reboot, or power the machine off; if it comes again, "
    "look at its power, its heat and its slot",
    RESET_REQUIRED: "stop lmxd and whatever else uses the card, then nvidia-smi --gpu-reset; or reboot",
    17: "allow lmxd /dev/nvidia*: DeviceAllow= of its unit, or the device cgroup of its container",
    GPU_NOT_FOUND: "see dmesg and nvidia-smi -L why the driver does not have the card; in a container, give it the "
    "GPUs (--gpus all)",
    VERSION_MISMATCH: "reboot, or reload the nvidia modules: the driver was upgraded while the old one was loaded; if "
    "that was done, restart lmxd, which may have the old library (models go on)",
}
_LOOK: Final = "see dmesg and nvidia-smi; if it lasts, reboot"
_OR_RAM: Final = "; or use the CPU (gpu: {device: host})"
_NOUVEAU: Final = (
    "nouveau has the card: install NVIDIA's driver, keep nouveau from loading (modprobe.blacklist=nouveau), and reboot"
)
_NO_DEVICE_FILES: Final = (
    "the driver is loaded, but its device files cannot be opened: nvidia-modprobe -u -c 0 makes them; in a container, "
    "give it the GPUs (--gpus all)"
)


class Fault(NamedTuple):
    """The reason why a card has no figures, and what to do."""

    why: str
    remedy: str


NO_SLICES: Final = Fault(
    "MIG divides it, and there is no slice",
    "make some: nvidia-smi mig -cgi PROFILE -C (nvidia-smi mig -lgip lists profiles); or have it whole: nvidia-smi "
    "-mig 0",
)
NO_UUID: Final = Fault("NVML: it does not tell its UUID", _LOOK)
OUT: Final = Fault("the card is no longer there", "put it back, or lmxctl reload to do without it")


class NvmlFault(Exception):
    """A call of NVML that failed. ``code``: NVML's."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code

    def fault(self, cards: Iterable[PciGpu] = ()) -> Fault:
        """The fault in words. ``cards``: those on the PCI bus, whose drivers tell more."""
        remedy = _REMEDIES.get(self.code, _LOOK)
        drivers = {card.driver for card in cards}
        if self.code in ABSENT and "nouveau" in drivers:
            remedy = _NOUVEAU
        elif self.code == DRIVER_NOT_LOADED and "nvidia" in drivers:
            remedy = _NO_DEVICE_FILES
        if self.code in ABSENT:
            remedy += _OR_RAM
        said = str(self)
        return Fault(said if said.startswith("NVML") else f"NVML: {said}", remedy)


class NvmlHang(NvmlFault):
    """A call of NVML that does not come back."""

    def __init__(self, said: str) -> None:
        super().__init__(TIMEOUT, said)
