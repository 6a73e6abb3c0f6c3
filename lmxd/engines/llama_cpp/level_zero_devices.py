"""A program: lists Intel's GPUs as JSON, in the order in which ONEAPI_DEVICE_SELECTOR numbers those of level_zero.

It is run as ``python level_zero_devices.py``, as vulkan_devices.py is. Structures and numbers are of ze_api.h.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

_LOADER = "libze_loader.so.1"
_GPUS_ONLY = 1
_PCI = 0x10008
"""ZE_STRUCTURE_TYPE_PCI_EXT_PROPERTIES"""
_P = ctypes.c_void_p


class _Pci(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("next", _P),
        ("address", ctypes.c_uint32 * 4),
        ("generation", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("bandwidth", ctypes.c_int64),
    ]


def devices() -> list[dict[str, Any]]:
    """The devices by their numbers, over all drivers. OSError if there is no loader; empty if it finds no driver."""
    zero = ctypes.CDLL(_LOADER)
    if zero.zeInit(_GPUS_ONLY):
        return []
    return [_described(zero, device) for driver in _all(zero.zeDriverGet) for device in _all(zero.zeDeviceGet, driver)]


def _all(get: Any, *of: ctypes.c_void_p) -> list[ctypes.c_void_p]:
    count = ctypes.c_uint32()
    if get(*of, ctypes.byref(count), None):
        return []
    handles = (_P * count.value)()
    get(*of, ctypes.byref(count), handles)
    return [_P(handle) for handle in handles[: count.value]]


def _described(zero: Any, device: ctypes.c_void_p) -> dict[str, Any]:
    pci = _Pci(kind=_PCI)
    told = not zero.zeDevicePciGetPropertiesExt(device, ctypes.byref(pci))
    domain, bus, number, function = pci.address
    address = f"{domain:04x}:{bus:02x}:{number:02x}.{function:x}" if told else ""
    return {"name": "", "vendor": 0x8086, "kind": 0, "driver": 0, "pci": address}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(devices()))
