"""The figures of one card: its memory, and that of its processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lmxd.devices.measurement import ProcessUse, agreed
from lmxd.devices.namespace import Namespace
from lmxd.devices.nvml.faults import (
    ARGUMENT_VERSION,
    FUNCTION_NOT_FOUND,
    GONE,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_SUPPORTED,
    NvmlFault,
)
from lmxd.devices.nvml.library import Library

_LOOKS: Final = 3
"""Tries to read a device while its processes stay the same. After the last, only bytes that were there before and
after count as theirs."""
_OLDER: Final = frozenset({FUNCTION_NOT_FOUND, ARGUMENT_VERSION, NOT_SUPPORTED, INVALID_ARGUMENT})
"""Codes of a driver or a card that does not know a newer form of a call."""
_UNKNOWN_BYTES: Final = 2**63
"""NVML's "not available" is all ones."""
_APART: Final = "its driver does not tell which process has which bytes ({}): each start is measured as a whole"


class NvmlMemory(NamedTuple):
    """The bytes of a card. ``reserved``: the driver's own, where it is known apart."""

    total: int
    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at one card. ``memory``: None where it is the machine's. ``processes``: None where not told apart.

    ``partial``: a process that is not among them may have bytes all the same. ``hint``: why they are not told apart.
    """

    memory: NvmlMemory | None
    processes: dict[int, ProcessUse] | None
    partial: bool = False
    hint: str = ""


def figures(library: Library, handle: Any, namespace: Namespace, pids: Set[int]) -> Figures:
    """The card's memory, and the processes': two calls, between which a load may have gone on.

    Looked at again until nothing did; if something always does, what is certain.
    """
    before, hint = _processes(library, handle)
    for _ in range(_LOOKS):
        memory = _memory(library, handle)
        after, hint = _processes(library, handle)
        if before is None or after is None or before == after:
            found = after
            break
        found, before = agreed(before, after), after
    if found is None:
        return Figures(memory, None, hint=hint)
    mine, partial = namespace.ours(found, pids)
    return Figures(memory, mine, partial or bool(hint), "")


def _memory(library: Library, handle: Any) -> NvmlMemory | None:
    """The newer form tells what the driver reserves from what is used, the older counts it as used."""
    version = library.constant("nvmlMemory_v2")
    faults = []
    for more in ({"version": version}, {}) if version else ({},):
        try:
            found = library.require("nvmlDeviceGetMemoryInfo", handle, **more)
        except NvmlFault as fault:
            if fault.code not in _OLDER:
                raise
            faults.append(fault)
            continue
        total, reserved = _bytes(found, "total"), _bytes(found, "reserved") if more else 0
        reserved = min(reserved, total)
        return NvmlMemory(total, _bytes(found, "used"), reserved) if total else None
    if any(fault.code == NOT_SUPPORTED for fault in faults):
        return None
    raise faults[-1]


def _bytes(found: Any, name: str) -> int:
    size = getattr(found, name, None)
    return int(size) if isinstance(size, int) and 0 < size < _UNKNOWN_BYTES else 0


def _processes(library: Library, handle: Any) -> tuple[dict[int, ProcessUse] | None, str]:
    """Bytes by pid, and why some are missing; None where NVML does not say them (WSL, some MIG set-ups)."""
    try:
        running = _listed(library, handle, "Compute")
    except NvmlFault as fault:
        if fault.code in GONE:
            raise
        why = "lmxd may not ask: let it run with the rights of root" if fault.code == NO_PERMISSION else str(fault)
        return None, _APART.format(why)
    running |= {pid: size for pid, size in _graphics(library, handle).items() if size > running.get(pid, 0)}
    known = {pid: ProcessUse(total=size, visible=size) for pid, size in running.items() if size >= 0}
    if len(known) == len(running):
        return known, ""
    return known or None, _APART.format("it lists processes without their bytes")


def _graphics(library: Library, handle: Any) -> Mapping[int, int]:
    """The processes that draw or use Vulkan. One that computes as well is in both lists, with the same bytes."""
    try:
        return _listed(library, handle, "Graphics")
    except NvmlFault as fault:
        if fault.code in GONE:
            raise
        return {}


def _listed(library: Library, handle: Any, kind: str) -> dict[int, int]:
    """Bytes by pid, -1 where they are not known."""
    try:
        found = library.require(f"nvmlDeviceGet{kind}RunningProcesses", handle)
    except NvmlFault as fault:
        if fault.code != FUNCTION_NOT_FOUND:
            raise
        found = library.require(f"nvmlDeviceGet{kind}RunningProcesses_v2", handle)
    sizes: dict[int, int] = {}
    for pid, size in _rows(found):
        sizes[pid] = max(size, sizes.get(pid, -1))
    return sizes


def _rows(found: Any) -> Iterator[tuple[int, int]]:
    for process in found or ():
        size = getattr(process, "usedGpuMemory", None)
        yield int(process.pid), size if isinstance(size, int) and 0 <= size < _UNKNOWN_BYTES else -1
