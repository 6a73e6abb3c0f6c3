"""Intel cards: the drivers' ioctls, else debugfs, else what is known besides of size and kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Final

from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.figures import CardFigures, Unreadable
from lmxd.devices.drm.ioctls import Ioctl, Region, i915_regions, xe_regions
from lmxd.devices.drm.kernel_files import entries, number, text, text_or_nothing
from lmxd.devices.host import memory_total
from lmxd.devices.roots import Roots

_ASKS: Final = {"xe": xe_regions, "i915": i915_regions}
_LOCAL: Final = {"xe": ("vram0", "vram1", "vram2", "vram3"), "i915": ("local0", "local1", "local2", "local3")}
_MACHINES: Final = {"xe": ("gtt", "system"), "i915": ("system0",)}
"""The names of memories in fdinfo: of a card's own, and of the machine's."""
_OWN_MEMORY: Final = re.compile(r"vram\d*_mm")
_INTEGRATED_AT: Final = "0000:00:02.0"
"""Intel's integrated GPUs are always there; cards are behind a bridge."""
JOIN: Final = "let the user that lmxd runs as open it: usermod -aG render USER, then restart lmxd"
_SHOW: Final = "have udev make it, or give it to the container that lmxd is in (--device /dev/dri)"


class Intel:
    """Reads cards of xe and i915."""

    def __init__(self, roots: Roots, ioctl: Ioctl) -> None:
        self._roots = roots
        self._ioctl = ioctl
        self._said: dict[str, list[Region]] = {}

    def figures(self, card: DrmCard) -> CardFigures:
        """The memory of a card. Raises Unreadable.

        The kernel tells use to those with CAP_PERFMON alone. To others a card looks empty, which no card is: the driver
        has bytes on it. So nothing used is not known. A card that sleeps is not woken by the question, and is free.
        """
        is_asleep = card.asleep and card.address in self._said
        regions, fault = (self._said[card.address], None) if is_asleep else self._asked(card)
        known = [] if any(r.local and r.used for r in regions) else self._debugged(card)
        local = [r for r in regions if r.local] or [r for r in known if r.local] or self._sized(card)
        if local:
            used = sum(r.used for r in local) or sum(r.used for r in known if r.local) or None
            total = sum(r.total for r in local)
            return CardFigures(total=total, used=0 if is_asleep else used, unified=False, regions=_LOCAL[card.driver])
        if not regions and not is_integrated(card):
            raise self._unreadable(card, fault)
        machines = [r for r in regions if not r.local]
        used = max((r.used for r in (*machines, *known) if not r.local), default=0)
        return CardFigures(
            total=max((r.total for r in machines), default=0) or memory_total(self._roots.proc),
            used=used or None,
            unified=True,
            regions=_MACHINES[card.driver],
        )

    def _asked(self, card: DrmCard) -> tuple[list[Region], OSError | None]:
        try:
            self._said[card.address] = self._regions(card)
        except OSError as error:
            return [], error
        return self._said[card.address], None

    def _regions(self, card: DrmCard) -> list[Region]:
        """The driver's answer. It is asked by the render node: who opens the other one may become the display's."""
        if not card.render:
            raise OSError(0, "it has no render node")
        descriptor = os.open(self._roots.dev / "dri" / card.render, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _ASKS[card.driver](self._ioctl, descriptor)
        finally:
            os.close(descriptor)

    def _debugged(self, card: DrmCard) -> list[Region]:
        """The figures in debugfs, for root: newer kernels name its directory by address, older ones by number."""
        for name in (card.address, str(card.number)):
            folder = self._roots.sys / "kernel/debug/dri" / name
            tiles = [path for tile in entries(folder) if tile.name.startswith("tile") for path in entries(tile)]
            own = [_manager(text_or_nothing(path), local=True) for path in tiles if _OWN_MEMORY.fullmatch(path.name)]
            machines = _manager(text_or_nothing(folder / "gtt_mm"), local=False)
            found = [*chain(*own), *machines, *_objects(text_or_nothing(folder / "i915_gem_objects"))]
            if found:
                return found
        return []

    def _sized(self, card: DrmCard) -> list[Region]:
        """The size of a card's memory alone, as xe has it in sysfs."""
        sizes = []
        for tile in entries(card.path):
            with suppress(OSError, ValueError):
                word = text(tile / "physical_vram_size_bytes")
                sizes.append(number(word.removeprefix("0x"), 16 if word.startswith("0x") else 10))
        return [Region(local=True, total=size, used=0) for size in sizes]

    def _unreadable(self, card: DrmCard, fault: OSError | None) -> Unreadable:
        if fault is not None and fault.filename is not None:
            remedy = JOIN if isinstance(fault, PermissionError) else _SHOW
            return Unreadable(f"/dev/dri/{card.render} cannot be opened: {fault.strerror}", remedy)
        return Unreadable(f"{card.driver} does not say what memory it has" + (f": {fault.strerror}" if fault else ""))


def is_integrated(card: DrmCard) -> bool:
    """Returns whether a card of Intel's is part of the processor, as far as its place tells."""
    return card.address == _INTEGRATED_AT


def _manager(content: str, *, local: bool) -> Iterator[Region]:
    """The region of one of the kernel's memory managers, as it prints them."""
    size, usage = (re.search(rf"^.*\b{word}: (\d+)$", content, re.MULTILINE) for word in ("size", "usage"))
    if size and usage:
        with suppress(ValueError):
            yield Region(local, number(size[1]), min(number(usage[1]), number(size[1])))


def _objects(content: str) -> Iterator[Region]:
    """The regions in i915_gem_objects, of which older kernels print two numbers, and newer ones the whole manager."""
    for part in re.split(r"^(?=(?:local|system|stolen)[\w-]*:)", content, flags=re.MULTILINE):
        if part.startswith("local"):
            old = re.match(r"\w+: total:0x([0-9a-f]{1,13}),? available:0x([0-9a-f]{1,13})", part)
            if old:
                total, available = (int(word, 16) for word in old.groups())
                yield Region(True, total, max(0, total - available))
            else:
                yield from _manager(part, local=True)
    if held := re.match(r"\d+ shrinkable \[\d+ free\] objects, (\d+) bytes", content):
        with suppress(ValueError):
            yield Region(False, 0, number(held[1]))
