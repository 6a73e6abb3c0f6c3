"""KFD, the part of amdgpu that ROCm computes by: which memory a GPU has, and what each of its processes holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.kernel_files import count, entries, number, pairs, text, text_or_nothing
from lmxd.devices.namespace import Namespace
from lmxd.devices.roots import Roots

_VRAM: Final = (1, 2)
"""heap_type of a bank that is the card's own, reached by the processor or not."""


@dataclass(frozen=True, slots=True)
class KfdNode:
    """One GPU of the topology. ``number``: by which ROCm's runtime knows it; ``gpu_id``: by which the kernel does.

    ``local``: bytes of its own memory, 0 also where this kernel says so of every GPU. ``banks``: bytes of the banks
    that are video memory, a carve-out of the machine's among them. ``cores``: those of the processor that it is one
    node with.
    """

    number: int
    gpu_id: int
    address: str
    minor: int
    serial: int
    local: int
    banks: int
    cores: int


def nodes(roots: Roots) -> list[KfdNode]:
    """The GPUs of the topology, in ROCm's order; processors are none, nor GPUs that this user may not use."""
    folder = roots.sys / "class/kfd/kfd/topology/nodes"
    paths = sorted((path for path in entries(folder) if path.name.isdecimal()), key=lambda path: int(path.name))
    found: list[KfdNode] = []
    for path in paths:
        if (node := _node(path, len(found))) is not None:
            found.append(node)
    return found


def node_of(card: DrmCard, known: Iterable[KfdNode]) -> KfdNode | None:
    """The node of a card, by its address, else by the number of its render node."""
    known = list(known)
    same = [node for node in known if node.address == card.address]
    minor = card.render.removeprefix("renderD")
    return next(iter(same or [node for node in known if minor and node.minor == int(minor)]), None)


def processes(roots: Roots, node: KfdNode | None) -> dict[int, int]:
    """Bytes by pid on one GPU. Empty in another pid namespace than the initial one: KFD names pids of that."""
    if node is None or Namespace(roots.proc).initial is False:
        return {}
    found = {}
    for entry in entries(roots.sys / "class/kfd/kfd/proc"):
        try:
            found[int(entry.name)] = number(text(entry / f"vram_{node.gpu_id}"))
        except (OSError, ValueError):
            continue  # it is not on this GPU, or has ended
    return found


def _node(path: Path, position: int) -> KfdNode | None:
    words = pairs(path / "properties", " ")
    if not count(words, "simd_count"):
        return None
    try:
        gpu_id = number(text_or_nothing(path / "gpu_id"))
    except ValueError:
        gpu_id = 0
    place, domain = count(words, "location_id"), count(words, "domain")
    banks = (pairs(bank / "properties", " ") for bank in entries(path / "mem_banks"))
    serial = words.get("unique_id", "")
    return KfdNode(
        number=position,
        gpu_id=gpu_id,
        address=f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}",
        minor=count(words, "drm_render_minor"),
        serial=int(serial) if serial.isdecimal() and len(serial) <= 20 else 0,
        local=count(words, "local_mem_size"),
        banks=sum(count(bank, "size_in_bytes") for bank in banks if count(bank, "heap_type") in _VRAM),
        cores=count(words, "cpu_cores_count"),
    )
