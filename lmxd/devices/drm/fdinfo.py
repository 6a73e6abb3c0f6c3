"""Per-process use of GPU memory: /proc/PID/fdinfo of descriptors that are a DRM device's (drm-usage-stats)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lmxd.devices.drm.kernel_files import number, target
from lmxd.devices.roots import Roots

_UNITS: Final = {"": 1, "B": 1, "KiB": 2**10, "kB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RANK: Final = ("resident", "memory", "total")
"""The figures of a region, the best first: bytes there now, an older name of the same, else all that was asked for."""
_KEY: Final = re.compile(r"drm-(resident|memory|total|shared)-([a-z0-9-]+)")
_OLD_KEY: Final = re.compile(r"(vram|gtt|cpu) mem")
"""amdgpu's before Linux 5.19, which names neither a driver nor a client: the address space (pasid) stands for it."""
_DRI: Final = "/dri/"


@dataclass(frozen=True, kw_only=True, slots=True)
class DrmClient:
    """One opened device with all of its copies. ``address``: of the card, empty where it is not said.

    ``resident`` and ``shared``: bytes by region of memory, the second with other clients. Both are empty where this
    kernel does not count.
    """

    address: str
    driver: str
    number: str
    resident: Mapping[str, int]
    shared: Mapping[str, int]

    def held(self, regions: Iterable[str]) -> int:
        """Bytes in these regions."""
        return sum(self.resident.get(region, 0) for region in regions)


def parse(content: str) -> DrmClient | None:
    """A descriptor's fdinfo; None if it is no GPU's. What cannot be a figure is left out."""
    words = {k.strip(): v.strip() for k, found, v in (line.partition(":") for line in content.splitlines()) if found}
    client = words.get("drm-client-id") or words.get("pasid", "")
    address = words.get("drm-pdev") or words.get("pdev", "")
    if not client or not ("drm-driver" in words or address):
        return None
    said: dict[str, dict[str, int]] = {kind: {} for kind in (*_RANK, "shared")}
    for key, value in words.items():
        if (size := _size(value)) is None:
            continue
        if match := _KEY.fullmatch(key):
            said[match[1]][match[2]] = size
        elif match := _OLD_KEY.fullmatch(key):
            said["memory"][match[1]] = size
    resident = {region: size for kind in reversed(_RANK) for region, size in said[kind].items()}
    driver = words.get("drm-driver", "amdgpu")
    shared = {region: min(size, resident.get(region, 0)) for region, size in said["shared"].items()}
    return DrmClient(address=address.lower(), driver=driver, number=client, resident=resident, shared=shared)


def descriptors(roots: Roots, pid: int) -> list[tuple[Path, str]]:
    """(file, node) of a process's descriptors of GPUs; of all, without nodes, where fdinfo can be read but the links
    cannot. None of one that is gone. PermissionError if they are not for us to see. No driver is asked.
    """
    links, shown = (roots.proc / str(pid) / name for name in ("fd", "fdinfo"))
    try:
        found = [(shown / name, target(links / name)) for name in os.listdir(links)]
    except (PermissionError, FileNotFoundError):
        return [(shown / name, "") for name in _listed(shown)]
    return [(path, link.rpartition("/")[2]) for path, link in found if _DRI in link]


def client(descriptor: Path, address: str) -> DrmClient | None:
    """The client behind a descriptor, as its driver tells; None if it is no GPU's, or is closed.

    ``address``: of its card, for kernels that do not say it. Raises PermissionError.
    """
    found = parse(_content(descriptor))
    return found and replace(found, address=found.address or address)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except PermissionError:
        raise
    except OSError:
        return []  # it has ended


def _content(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except PermissionError:
        raise
    except OSError:
        return ""  # it was closed meanwhile


def _size(value: str) -> int | None:
    """Bytes of a figure with its unit; None if it is none."""
    count, _, unit = value.partition(" ")
    try:
        return number(str(number(count) * _UNITS[unit.strip()]))
    except (KeyError, ValueError):
        return None
