"""Backends: the kinds of GPU that a build of llama-server can run on, read from its files or asked of it."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.accounts import SystemUser
from lmxd.engines.llama_cpp.asking import ask
from lmxd.estimate.backends import Backend

_PT_INTERP: Final = 3
"""The entry of an ELF file's program headers that names its loader (elf(5))."""
DEADLINE: Final = 15.0
"""Seconds to list libraries, or devices: from a cold disk, a build with GPU kernels takes a while to load."""


_LIBRARIES: Final = {
    Backend.CUDA: re.compile(r"lib(ggml-cuda|cudart|cublas|cuda)\b"),
    Backend.ROCM: re.compile(r"lib(ggml-hip|amdhip64|hipblas|rocblas)\b"),
    Backend.SYCL: re.compile(r"lib(ggml-sycl|sycl)\b"),
    Backend.VULKAN: re.compile(r"lib(ggml-vulkan|vulkan)\b"),
}
_DRIVER: Final = "libcuda.so.1"
"""A library of NVIDIA's driver: all others come with a build, or beside it."""
_NEEDED: Final = re.compile(r"^\s+(\S+)(?: => (\S+))?", re.MULTILINE)
_LISTED: Final = re.compile(r"^Available devices:$", re.MULTILINE)
_DEVICE: Final = re.compile(r"^  (\w+?)\d+: ", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Built:
    """The backends that a build has and can load, and the Vulkan loader that it would open."""

    backends: frozenset[Backend]
    vulkan: str = "libvulkan.so.1"


def built(path: Path, env: Mapping[str, str]) -> Built | None:
    """The backends of a program, by the libraries that it needs or has beside it; None if they do not tell.

    Nothing of it is run, and no GPU is touched: its loader lists what it would load.
    """
    loader = _loader(path)
    if loader is None:
        return None
    try:
        listed = ask((loader, "--list", path), env, DEADLINE)
    except (OSError, subprocess.SubprocessError):
        return None
    if listed.status:
        return None
    needed = dict(_NEEDED.findall(listed.output))
    beside = {at.name: at for at in _beside(path, needed)}
    names = {*needed, *(name for name, at in beside.items() if name in needed or _loads(loader, at, env))}
    if not any(name.startswith("libggml") for name in names):
        return None  # all in one file, or a program that starts another
    vulkan = next((at for name, at in needed.items() if name.startswith("libvulkan.") and at.startswith("/")), "")
    own = path.resolve().parent / "libvulkan.so.1"
    return Built(_named(names), vulkan or (str(own) if own.exists() else "libvulkan.so.1"))


def _beside(path: Path, needed: Mapping[str, str]) -> Iterator[Path]:
    """Backends that are loaded when it runs: beside the program, beside ggml, or in a directory of that.

    There are none for a program that needs the CPU's: it was linked to all that it uses. Others are older builds'.
    """
    if any(name.startswith("libggml-cpu") for name in needed):
        return
    places = {path.resolve().parent}
    places |= {Path(at).resolve().parent for name, at in needed.items() if name.startswith("libggml") and at}
    for place in places:
        for pattern in ("libggml-*.so*", "ggml/libggml-*.so*", "ggml/*/libggml-*.so*"):
            yield from place.glob(pattern)


def _loads(loader: str, library: Path, env: Mapping[str, str]) -> bool:
    """Whether all is there that a backend for GPUs needs, but for NVIDIA's driver, which may be late.

    llama.cpp goes on without one that it cannot load.
    """
    if not _named([library.name]):
        return True
    try:
        listed = ask((loader, "--list", library), env, DEADLINE)
    except (OSError, subprocess.SubprocessError):
        return False
    return not listed.status or _DRIVER in listed.errors


def _named(names: Iterable[str]) -> frozenset[Backend]:
    return frozenset(b for b, pattern in _LIBRARIES.items() if any(pattern.match(name) for name in names))


def _loader(path: Path) -> str | None:
    """The loader of a dynamic 64-bit ELF program; None for anything else."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:5] != b"\x7fELF\x02":
                return None
            order = "<" if head[5] == 1 else ">"
            at, size, count = *struct.unpack_from(f"{order}Q", head, 32), *struct.unpack_from(f"{order}HH", head, 54)
            for number in range(count):
                file.seek(at + number * size)
                kind, _, offset, _, _, length = struct.unpack(f"{order}IIQQQQ", file.read(40))
                if kind == _PT_INTERP:
                    file.seek(offset)
                    return file.read(length).rstrip(b"\0").decode()
    except (OSError, struct.error, ValueError, OverflowError):
        return None
    return None


_asked: dict[tuple[object, ...], frozenset[Backend] | None] = {}


def listed(
    path: Path, env: Mapping[str, str], cards: frozenset[str], account: SystemUser | None
) -> frozenset[Backend] | None:
    """The backends of the devices that it lists itself, once for as long as the file and the ``cards`` are the same.

    None if it does not list them. It may wake the cards; that is why it is asked only if its files do not tell. It runs
    as ``account`` (None: as we do). That it lists none is not remembered: their driver may be late.
    """
    seen = path.stat()
    key = (str(path.resolve()), seen.st_size, seen.st_mtime_ns, cards)
    if not _asked.get(key):
        _asked[key] = _ask(path, env, account)
    return _asked[key]


def _ask(path: Path, env: Mapping[str, str], account: SystemUser | None) -> frozenset[Backend] | None:
    try:
        text = ask((path, "--list-devices"), env, DEADLINE, account).text
    except (OSError, subprocess.SubprocessError):
        return None
    if not _LISTED.search(text):
        return None
    return frozenset(b for b in Backend if b.value in set(_DEVICE.findall(text)))
