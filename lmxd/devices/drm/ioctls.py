"""The ioctls by which xe and i915 say what memory a card has (linux/uapi/drm/xe_drm.h, i915_drm.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Ioctl: TypeAlias = Callable[[int, int, bytearray], int]
"""(descriptor, request, argument, which is changed in place). Raises OSError."""

XE_DEVICE_QUERY: Final = 0xC0286440
"""_IOWR('d', 0x40 + DRM_XE_DEVICE_QUERY, 40 bytes)."""
I915_QUERY: Final = 0xC0106479
"""_IOWR('d', 0x40 + DRM_I915_QUERY, 16 bytes)."""
_XE_MEMORY_REGIONS, _I915_MEMORY_REGIONS = 1, 4
"""DRM_XE_DEVICE_QUERY_MEM_REGIONS and DRM_I915_QUERY_MEMORY_REGIONS."""
_XE_QUERY: Final = struct.Struct("=QIIQ16x")
"""drm_xe_device_query: extensions, query, size, data."""
_XE_HEAD: Final = struct.Struct("=I4x")
_XE_REGION: Final = struct.Struct("=HHIQQQQ48x")
"""drm_xe_mem_region: class, instance, smallest page, total, used, both of what the processor sees."""
_I915_QUERIES: Final = struct.Struct("=IIQ")
"""drm_i915_query: how many items, flags, where they are."""
_I915_ITEM: Final = struct.Struct("=QiIQ")
"""drm_i915_query_item: query, length, flags, data."""
_I915_HEAD: Final = struct.Struct("=I12x")
_I915_REGION: Final = struct.Struct("=HHIQQ64x")
"""drm_i915_memory_region_info: class, instance, reserved, probed, unallocated."""
_DEVICE: Final = 1
"""The class of a card's own memory in both; 0 is the machine's."""
_LARGEST: Final = 2**16
"""Bytes of an answer; a region takes 88, and the most that a card has is a handful."""


@dataclass(frozen=True, slots=True)
class Region:
    """One memory that a card reaches: its own, or (``local`` False) the machine's.

    ``used`` is 0 too where the kernel does not tell it to those without CAP_PERFMON.
    """

    local: bool
    total: int
    used: int


def kernel_ioctl(descriptor: int, request: int, argument: bytearray) -> int:
    """The system call."""
    return int(fcntl.ioctl(descriptor, request, argument))


def xe_regions(ioctl: Ioctl, descriptor: int) -> list[Region]:
    """The regions of a card of xe. Raises OSError."""
    query = bytearray(_XE_QUERY.pack(0, _XE_MEMORY_REGIONS, 0, 0))
    ioctl(descriptor, XE_DEVICE_QUERY, query)
    answer = _room(_XE_QUERY.unpack(query)[2])
    query = bytearray(_XE_QUERY.pack(0, _XE_MEMORY_REGIONS, len(answer), ctypes.addressof(answer)))
    ioctl(descriptor, XE_DEVICE_QUERY, query)
    return list(decode_xe(answer.raw))


def i915_regions(ioctl: Ioctl, descriptor: int) -> list[Region]:
    """The regions of a card of i915. Raises OSError."""
    answer = _room(_ask_i915(ioctl, descriptor, 0, 0))
    _ask_i915(ioctl, descriptor, len(answer), ctypes.addressof(answer))
    return list(decode_i915(answer.raw))


def decode_xe(answer: bytes) -> Iterator[Region]:
    """The regions in a drm_xe_query_mem_regions."""
    for part in _parts(answer, _XE_HEAD, _XE_REGION):
        memory, _, _, total, used, *_ = _XE_REGION.unpack(part)
        yield Region(memory == _DEVICE, total, min(used, total))


def decode_i915(answer: bytes) -> Iterator[Region]:
    """The regions in a drm_i915_query_memory_regions."""
    for part in _parts(answer, _I915_HEAD, _I915_REGION):
        memory, _, _, probed, unallocated = _I915_REGION.unpack(part)
        yield Region(memory == _DEVICE, probed, max(0, probed - unallocated))


def _parts(answer: bytes, head: struct.Struct, region: struct.Struct) -> Iterator[bytes]:
    if len(answer) < head.size:
        return
    (count,) = head.unpack_from(answer)
    for start in range(head.size, len(answer) - region.size + 1, region.size)[:count]:
        yield answer[start : start + region.size]


def _ask_i915(ioctl: Ioctl, descriptor: int, length: int, data: int) -> int:
    """The length that one item has, which the kernel makes a negative number where it refuses that item alone."""
    item = ctypes.create_string_buffer(_I915_ITEM.pack(_I915_MEMORY_REGIONS, length, 0, data), _I915_ITEM.size)
    ioctl(descriptor, I915_QUERY, bytearray(_I915_QUERIES.pack(1, 0, ctypes.addressof(item))))
    found = int(_I915_ITEM.unpack(item.raw)[1])
    if found < 0:
        raise OSError(-found, "DRM_I915_QUERY_MEMORY_REGIONS is refused")
    return found


def _room(size: int) -> ctypes.Array[ctypes.c_char]:
    if not 0 < size <= _LARGEST:
        raise OSError(errno.EINVAL, f"an answer of {size} bytes")
    return ctypes.create_string_buffer(size)
