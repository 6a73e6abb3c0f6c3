"""Trees of the kernel's files as machines with AMD's and Intel's cards have them, and drivers that answer ioctls."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmxd.devices.drm.ioctls import I915_QUERY, XE_DEVICE_QUERY
from lmxd.devices.roots import Roots

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """One machine, its files under a directory."""

    def __init__(self, root: Path, memory: int = 64 * GIB) -> None:
        self.root = root
        self.roots = Roots(sys=root / "sys", proc=root / "proc", dev=root / "dev")
        self.lists = (root / "pci.ids",)
        self.write("proc/meminfo", f"MemTotal: {memory // KIB} kB\nMemAvailable: {memory // KIB} kB\n")
        self.write("proc/sys/kernel/osrelease", "6.14.0-37-generic")

    def write(self, path: str, content: str | int) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{content}\n")
        return place

    def card(self, number: int, address: str, driver: str, device: str, render: int | None = None) -> Path:
        """A card with both of its nodes and a connector; its PCI device's directory."""
        vendor = {"amdgpu": "0x1002", "nvidia": "0x10de", "nouveau": "0x10de", "ast": "0x1a03"}.get(driver, "0x8086")
        place = f"sys/class/drm/card{number}/device"
        uevent = f"DRIVER={driver}\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}"
        self.write(f"{place}/uevent", uevent)
        self.write(f"{place}/vendor", vendor)
        self.write(f"{place}/device", device)
        self.write(f"sys/class/drm/card{number}-HDMI-A-1/device/uevent", uevent)
        if render is not None:
            self.write(f"sys/class/drm/renderD{render}/device/uevent", uevent)
            self.write(f"dev/dri/renderD{render}", "")
        return self.root / place

    def amd(
        self, number: int = 1, address: str = "0000:03:00.0", device: str = "0x744c", serial: str = "", **memory: int
    ) -> Path:
        """A card of AMD's; ``memory``: vram_total, vram_used, gtt_total, gtt_used."""
        card = self.card(number, address, "amdgpu", device, 127 + number)
        (card / "unique_id").write_text(f"{serial}\n")
        for name, size in memory.items():
            (card / f"mem_info_{name}").write_text(f"{size}\n")
        return card

    def kfd(self, number: int, address: str, local: int, bank: int = 0, cores: int = 0) -> None:
        """A GPU of KFD's topology; its gpu_id is a thousand times its number."""
        domain, bus, rest = address.split(":")
        slot, function = rest.split(".")
        place = int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
        node = f"sys/class/kfd/kfd/topology/nodes/{number}"
        self.write(f"{node}/gpu_id", 1000 * number)
        self.write(
            f"{node}/properties",
            f"cpu_cores_count {cores}\nsimd_count 80\nlocation_id {place}\ndomain {int(domain, 16)}\n"
            f"drm_render_minor 128\nlocal_mem_size {local}\nunique_id 0",
        )
        self.write(f"{node}/mem_banks/0/properties", f"heap_type 1\nsize_in_bytes {bank}")

    def process(self, pid: int, *descriptors: tuple[str, str]) -> None:
        """A process with descriptors: what each is a link to, and its fdinfo."""
        for number, (link, content) in enumerate(descriptors, 3):
            self.write(f"proc/{pid}/fdinfo/{number}", content)
            place = self.root / f"proc/{pid}/fd/{number}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(link)


def fdinfo(driver: str, address: str | None, client: int, **regions: str) -> str:
    """A descriptor's lines; ``regions``: resident_vram="5 KiB"."""
    lines = ["pos:\t0", "flags:\t02100002", f"drm-driver:\t{driver}", f"drm-client-id:\t{client}"]
    lines += [f"drm-pdev:\t{address}"] if address else []
    return "\n".join([*lines, *(f"drm-{name.replace('_', '-')}:\t{value}" for name, value in regions.items())])


@dataclass
class Drivers:
    """xe and i915 behind ioctl(2), by the name of the render node: (class, total, used) of each region.

    Without ``perfmon`` they tell no use. ``asked`` counts.
    """

    regions: Mapping[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    perfmon: bool = True
    asked: int = 0

    def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
        self.asked += 1
        node = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if node not in self.regions:
            raise OSError(errno.ENODEV, "No such device")
        {XE_DEVICE_QUERY: self._xe, I915_QUERY: self._i915}[request](node, argument)
        return 0

    def _xe(self, node: str, argument: bytearray) -> None:
        _, query, size, data = struct.unpack_from("=QIIQ", argument)
        answer = struct.pack("=II", len(self.regions[node]), 0)
        for memory, total, used in self.regions[node]:
            answer += struct.pack("=HHIQQQQ6Q", memory, 0, 4096, total, used if self.perfmon else 0, 0, 0, *[0] * 6)
        if query != 1 or size not in (0, len(answer)):
            raise OSError(errno.EINVAL, "Invalid argument")
        if size:
            ctypes.memmove(data, answer, size)
        struct.pack_into("=I", argument, 12, len(answer))

    def _i915(self, node: str, argument: bytearray) -> None:
        items, flags, place = struct.unpack("=IIQ", argument)
        query, length, _, data = struct.unpack("=QiIQ", ctypes.string_at(place, 24))
        assert (items, flags, query) == (1, 0, 4)
        answer = struct.pack("=I3I", len(self.regions[node]), 0, 0, 0)
        for memory, total, used in self.regions[node]:
            is_told = self.perfmon and memory == 1
            answer += struct.pack("=HHIQQ8Q", memory, 0, 0, total, total - (used if is_told else 0), *[0] * 8)
        if 0 < length < len(answer):
            found = -errno.EINVAL
        else:
            found = len(answer)
            if length:
                ctypes.memmove(data, answer, len(answer))
        ctypes.memmove(place + 8, struct.pack("=i", found), 4)
