"""All cards of AMD and Intel at one moment, each with its figures or the reason why there are none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lmxd.devices.drm import amdgpu, kfd
from lmxd.devices.drm.cards import DrmCard, cards, driver_wanted, undriven
from lmxd.devices.drm.figures import CardFigures, Unreadable
from lmxd.devices.drm.intel import Intel, is_integrated
from lmxd.devices.drm.ioctls import Ioctl
from lmxd.devices.measurement import Vendor
from lmxd.devices.roots import Roots

_PERIOD: Final = 10.0
"""Seconds between two looks at the PCI bus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardReading:
    """One card. ``id`` is what lasts of it: its unique id as ROCm writes it, else the PCI address.

    ``figures`` or ``fault``. ``integrated``: it is part of the processor. ``node``: KFD's of it. ``rocm``: the number
    by which ROCm's runtime knows it, None if that is not known.
    """

    card: DrmCard
    id: str
    integrated: bool
    figures: CardFigures | None = None
    fault: Unreadable | None = None
    node: kfd.KfdNode | None = None
    rocm: int | None = None


class CardReader:
    """Reads all cards. Those without a driver are looked for now and then: the whole PCI bus is read for it."""

    def __init__(self, roots: Roots, ioctl: Ioctl, clock: Callable[[], float] = time.monotonic) -> None:
        self._roots = roots
        self._clock = clock
        self._identities: dict[str, tuple[int, int]] = {}
        """Model and unique id by address: a card that does not tell its id just now is no other one."""
        self._undriven: list[DrmCard] = []
        self._due = float("-inf")
        self._intel = Intel(roots, ioctl)

    def read(self) -> list[CardReading]:
        """All cards by PCI address, those without a driver last."""
        known = kfd.nodes(self._roots)
        found = [(card, kfd.node_of(card, known)) for card in cards(self._roots)]
        taken = {card.address for card, _ in found}
        every = [*found, *((card, None) for card in self._waiting() if card.address not in taken)]
        serials = [self._serial(card, node) for card, node in every]
        alone = Counter(serials)
        read = []
        for (card, node), serial in zip(every, serials, strict=True):
            lasting = f"GPU-{serial:016x}" if serial and alone[serial] == 1 else card.address
            if card.driver:
                read.append(replace(self._one(card, lasting, node, known), rocm=_rocm(card, node, found)))
            else:
                read.append(_without_driver(card, lasting))
        return read

    def _serial(self, card: DrmCard, node: kfd.KfdNode | None) -> int:
        """Its unique id, as it told it now or before; 0 if it never did."""
        model, before = self._identities.get(card.address, (0, 0))
        same = not card.device_id or card.device_id == model
        serial = card.serial or (node.serial if node else 0) or (before if same else 0)
        self._identities[card.address] = card.device_id or model, serial
        return serial

    def _waiting(self) -> list[DrmCard]:
        if self._clock() >= self._due:
            self._due = self._clock() + _PERIOD
            self._undriven = undriven(self._roots)
        return self._undriven

    def _one(self, card: DrmCard, lasting: str, node: kfd.KfdNode | None, known: list[kfd.KfdNode]) -> CardReading:
        try:
            is_amd = card.vendor is Vendor.AMD
            figures = amdgpu.figures(card, node, known) if is_amd else self._intel.figures(card)
            if not figures.total:
                raise Unreadable(f"{card.driver} says that it has no memory")
        except Unreadable as fault:
            return CardReading(card=card, id=lasting, integrated=_guessed(card), fault=fault, node=node)
        return CardReading(card=card, id=lasting, integrated=figures.unified, figures=figures, node=node)


def _rocm(card: DrmCard, node: kfd.KfdNode | None, found: Sequence[tuple[DrmCard, kfd.KfdNode | None]]) -> int | None:
    """The number of a card in ROCm's order. The only one of AMD's is the first, whether KFD shows it or not."""
    if node is not None:
        return node.number
    return 0 if [other for other, _ in found if other.vendor is Vendor.AMD] == [card] else None


def _without_driver(card: DrmCard, lasting: str) -> CardReading:
    driver = driver_wanted(card)
    remedy = f"load it (modprobe {driver.split()[0]}), unless the kernel was told not to (nomodeset)"
    fault = Unreadable(f"no driver has the card yet: {driver} is not loaded", remedy)
    return CardReading(card=card, id=lasting, integrated=_guessed(card), fault=fault)


def _guessed(card: DrmCard) -> bool:
    """Returns whether a card that cannot be read is integrated, as far as its number and place tell."""
    return is_integrated(card) if card.vendor is Vendor.INTEL else amdgpu.is_processors(card)
