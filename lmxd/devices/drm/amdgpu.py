"""AMD cards: the figures that amdgpu has in sysfs, and whether their memory is the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.figures import CardFigures, Unreadable
from lmxd.devices.drm.kernel_files import number, text
from lmxd.devices.drm.kfd import KfdNode

_FIRST_CARD: Final = 0x2000
_KABINI: Final = range(0x9800, 0x9900)
_MI300A: Final = 0x74A0
"""AMD numbers its processors' GPUs below the first, and long ago in the second range; the third's memory is RAM, too,
and none of it a carve-out."""
_SMALLEST_CARD: Final = 2**30
_MUCH_MORE: Final = 4
"""A carve-out is at most a quarter of what the GPU may have of RAM besides; a card that small is older than amdgpu."""


def figures(card: DrmCard, node: KfdNode | None, known: Sequence[KfdNode]) -> CardFigures:
    """The memory of a card. ``node``: its own of KFD's, ``known`` all of them. Raises Unreadable.

    One that sleeps may be left unread: it is then as large as KFD says, and free.
    """
    try:
        vram = _bytes(card, "vram_total")
    except Unreadable:
        if not card.asleep or node is None or not max(node.local, node.banks):
            raise
        vram = max(node.local, node.banks)
    gtt = _bytes(card, "gtt_total", missing=0)
    vram_used = _used(card, "vram", vram)
    if not is_unified(card, node, known, vram=vram, gtt=gtt):
        return CardFigures(total=vram, used=vram_used, unified=False, regions=("vram",))
    is_carved = card.device_id != _MI300A
    return CardFigures(
        total=vram + gtt,
        used=vram_used + _used(card, "gtt", gtt),
        unified=True,
        own=vram if is_carved else 0,
        own_used=vram_used if is_carved else 0,
        regions=("vram", "gtt"),
        hidden=("cpu",),
    )


def is_unified(card: DrmCard, node: KfdNode | None, known: Sequence[KfdNode], *, vram: int, gtt: int) -> bool:
    """Returns whether a GPU's bytes are the machine's.

    KFD says it where its kernel fills in local_mem_size; many print 0 for every GPU. A carve-out may be larger than
    what is left of RAM, and a small card's GTT larger than its memory, so sizes alone do not tell.
    """
    if is_processors(card):
        return True
    if node is not None and node.cores:
        return True
    if (node is not None and node.local) or vram >= gtt:
        return False
    if node is not None and any(other.local for other in known):
        return True
    return gtt >= _MUCH_MORE * vram and (not card.device_id or vram < _SMALLEST_CARD)


def is_processors(card: DrmCard) -> bool:
    """Returns whether a GPU's number is one that AMD gives to those of its processors."""
    return 0 < card.device_id < _FIRST_CARD or card.device_id in _KABINI or card.device_id == _MI300A


def _used(card: DrmCard, memory: str, total: int) -> int:
    try:
        used = _bytes(card, f"{memory}_used", missing=None if total else 0)
    except Unreadable:
        if card.asleep:
            return 0
        raise
    if used > total:
        raise Unreadable(f"mem_info_{memory}_used says {used} of {total} bytes")
    return used


def _bytes(card: DrmCard, name: str, missing: int | None = None) -> int:
    path = card.path / f"mem_info_{name}"
    try:
        return number(text(path))
    except FileNotFoundError as error:
        if missing is not None and card.path.exists():
            return missing
        raise Unreadable(f"{path.name}: {error.strerror}") from error
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(f"{path.name}: {error}") from error
