"""A program: lists the Vulkan devices as JSON, in the order in which the loader numbers them.

It is run by itself, as ``python vulkan_devices.py LOADER``, in the environment and as the user of an engine: drivers,
layers and the loader decide about the order. It imports nothing of lmxd, so that this environment need not be changed.
Structures and numbers are of vulkan_core.h.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

_APPLICATION, _INSTANCE = 0, 1
_PROPERTIES_2, _DRIVER, _PCI = 1_000_059_001, 1_000_196_000, 1_000_212_000
"""VkStructureType of what is asked for: properties, the driver's, and those of VK_EXT_pci_bus_info."""
_PROPERTIES_BYTES = 4096
"""More than VkPhysicalDeviceProperties has: 824."""
_UNTOLD = 0xFFFFFFFF
_CPU = 4
"""VK_PHYSICAL_DEVICE_TYPE_CPU. It is no card, but Mesa since 25 says that llvmpipe is one at 0000:00:00.0."""
_P = ctypes.c_void_p


class _Application(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("next", _P),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api", ctypes.c_uint32),
    ]


class _Instance(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("next", _P),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_Application)),
        ("layers", ctypes.c_uint32),
        ("layer_names", _P),
        ("extensions", ctypes.c_uint32),
        ("extension_names", _P),
    ]


class _Pci(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("next", _P), ("address", ctypes.c_uint32 * 4)]


class _Driver(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("next", _P), ("id", ctypes.c_uint32), ("text", ctypes.c_char * 516)]


class _Properties(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("next", _P), ("body", ctypes.c_ubyte * _PROPERTIES_BYTES)]


def devices(loader: str) -> list[dict[str, Any]]:
    """The devices by their numbers. OSError if there is no loader; empty if it finds no driver."""
    vulkan = ctypes.CDLL(loader)
    api = ctypes.c_uint32()
    vulkan.vkEnumerateInstanceVersion(ctypes.byref(api))
    application = _Application(_APPLICATION, None, b"ggml-vulkan", 1, None, 0, api)
    instance, found = _P(), ctypes.c_uint32()
    created = _Instance(_INSTANCE, None, 0, ctypes.pointer(application), 0, None, 0, None)
    if vulkan.vkCreateInstance(ctypes.byref(created), None, ctypes.byref(instance)):
        return []
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(found), None)
    handles = (_P * found.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(found), handles)
    return [_described(vulkan, _P(handle)) for handle in handles[: found.value]]


def _described(vulkan: Any, handle: ctypes.c_void_p) -> dict[str, Any]:
    pci = _Pci(_PCI, None, (ctypes.c_uint32 * 4)(*[_UNTOLD] * 4))
    driver = _Driver(_DRIVER, ctypes.addressof(pci), 0, b"")
    properties = _Properties(_PROPERTIES_2, ctypes.addressof(driver))
    vulkan.vkGetPhysicalDeviceProperties2(handle, ctypes.byref(properties))
    body = bytes(properties.body)
    vendor, _, kind = struct.unpack_from("=III", body, 8)
    domain, bus, device, function = pci.address
    told = domain != _UNTOLD and kind != _CPU
    return {
        "name": body[20:276].split(b"\0")[0].decode(errors="replace"),
        "vendor": vendor,
        "kind": kind,
        "driver": driver.id,
        "pci": f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}" if told else "",
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(devices(sys.argv[1])))
