"""All cards of AMD and Intel at one moment, each with its figures or the reason why there are none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from lmxd.devices.driver_calls import CallRound, DriverCalls
from lmxd.devices.drm import amdgpu, kfd
from lmxd.devices.drm.cards import DrmCard, addresses, cards, driver_wanted, undriven
from lmxd.devices.drm.figures import CardFigures, Unreadable
from lmxd.devices.drm.intel import Intel, is_integrated
from lmxd.devices.drm.ioctls import Ioctl
from lmxd.devices.roots import Roots
from lmxd.vendor import Vendor

_PERIOD: Final = 10.0
"""Seconds between two looks at the PCI bus."""
SILENT: Final = "/sys/class/drm"
_KFD: Final = "/sys/class/kfd"
"""The names of what is asked and is no card's alone. The first stands for cards of which the kernel has not told."""
_HANGS: Final = (
    "see dmesg, and end what uses the card; if the driver stays away, reboot (other devices go on meanwhile)"
)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class CardList:
    """The cards that drivers of ours have, the GPUs of KFD's topology, and the address of each node of a card.

    ``late``: the kernel has not told all of it in time, and the rest is as it was before.
    """

    cards: Sequence[DrmCard] = ()
    known: Sequence[kfd.KfdNode] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)
    late: bool = False


class CardReader:
    """Reads all cards. Those without a driver are looked for now and then: the whole PCI bus is read for it."""

    def __init__(
        self,
        roots: Roots,
        ioctl: Ioctl,
        clock: Callable[[], float] = time.monotonic,
        calls: DriverCalls | None = None,
    ) -> None:
        self._roots = roots
        self._clock = clock
        self.calls = calls or DriverCalls()
        self._identities: dict[str, tuple[int, int]] = {}
        """Model and unique id by address: a card that does not tell its id just now is no other one."""
        self._undriven: list[DrmCard] = []
        self._due = float("-inf")
        self._intel = Intel(roots, ioctl)
        self._list = CardList()

    @property
    def hang(self) -> Unreadable:
        """The fault of a card of which a call does not come back."""
        return Unreadable(self.calls.late(), _HANGS)

    def find(self, driver: CallRound) -> CardList:
        """The cards there are, without their figures."""
        before = self._list
        said = driver.ask({SILENT: lambda: (cards(self._roots), addresses(self._roots))})
        found, nodes = said.get(SILENT, (before.cards, before.nodes))
        known = driver.ask({_KFD: lambda: kfd.nodes(self._roots)}).get(_KFD, before.known)
        self._list = CardList(cards=found, known=known, nodes=nodes, late=SILENT not in said)
        return self._list

    def read(self, listed: CardList, driver: CallRound) -> list[CardReading]:
        """All cards by PCI address, those without a driver last. One that hangs has that fault."""
        found = [(card, kfd.node_of(card, listed.known)) for card in listed.cards]
        taken = {card.address for card, _ in found}
        every = [*found, *((card, None) for card in self._waiting() if card.address not in taken)]
        serials = [self._serial(card, node) for card, node in every]
        alone = Counter(serials)
        read = {}
        for (card, node), serial in zip(every, serials, strict=True):
            lasting = f"GPU-{serial:016x}" if serial and alone[serial] == 1 else card.address
            base = CardReading(
                card=card, id=lasting, integrated=_guessed(card), node=node, rocm=_rocm(card, node, found)
            )
            read[card.address] = base if card.driver else _without_driver(base)
        jobs = {at: partial(self._one, base, listed.known) for at, base in read.items() if base.card.driver}
        return list((read | {at: replace(read[at], fault=self.hang) for at in jobs} | driver.ask(jobs)).values())

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

    def _one(self, base: CardReading, known: Sequence[kfd.KfdNode]) -> CardReading:
        card = base.card
        try:
            is_amd = card.vendor is Vendor.AMD
            figures = amdgpu.figures(card, base.node, known) if is_amd else self._intel.figures(card)
            if not figures.total:
                raise Unreadable(f"{card.driver} says that it has no memory")
        except Unreadable as fault:
            return replace(base, fault=fault)
        return replace(base, integrated=figures.unified, figures=figures)


def _rocm(card: DrmCard, node: kfd.KfdNode | None, found: Sequence[tuple[DrmCard, kfd.KfdNode | None]]) -> int | None:
    """The number of a card in ROCm's order. The only one of AMD's is the first, whether KFD shows it or not."""
    if node is not None:
        return node.number
    return 0 if [other for other, _ in found if other.vendor is Vendor.AMD] == [card] else None


def _without_driver(base: CardReading) -> CardReading:
    driver = driver_wanted(base.card)
    remedy = f"load it (modprobe {driver.split()[0]}), unless the kernel was told not to (nomodeset)"
    return replace(base, fault=Unreadable(f"no driver has the card yet: {driver} is not loaded", remedy), rocm=None)


def _guessed(card: DrmCard) -> bool:
    """Returns whether a card that cannot be read is integrated, as far as its number and place tell."""
    return is_integrated(card) if card.vendor is Vendor.INTEL else amdgpu.is_processors(card)
