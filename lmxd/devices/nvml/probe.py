"""The probe of NVIDIA's cards.

Faults are states of a device, not exceptions. A card that fails is looked for again by itself, with pauses that grow,
and the others stay as they are. NVML is closed and opened again only where none of its cards answers, or where the
PCI bus shows that cards or drivers came or went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from contextlib import suppress
from typing import Any, Final

from lmxd.devices.backoff import Backoff
from lmxd.devices.measurement import DeviceKind, Measurement, Vendor
from lmxd.devices.namespace import Namespace
from lmxd.devices.nvml.card import NvmlCard
from lmxd.devices.nvml.faults import ABSENT, GPU_NOT_FOUND, Fault, NvmlFault
from lmxd.devices.nvml.inventory import inventory
from lmxd.devices.nvml.library import Library
from lmxd.devices.nvml.roster import Roster
from lmxd.devices.pci import PciGpu, gpus
from lmxd.devices.roots import Roots

_INVENTORY: Final = 10.0
_WHILE_FAULTY: Final = 1.0
"""Seconds between two looks at what cards there are: usually, and while one that is asked for does not answer."""


class NvmlProbe:
    """Measures the cards in ``refs``: index, UUID or PCI id, as configured; None for all.

    ``nvml`` is the pynvml module or something that behaves like it. ``absent``: why there is no card, where there is
    none: it is looked for again all the same.
    """

    def __init__(
        self,
        nvml: Any,
        refs: tuple[int | str, ...] | None,
        clock: Callable[[], float] = time.monotonic,
        roots: Roots = Roots(),
    ) -> None:
        self._library = Library(nvml)
        self._refs = refs
        self._clock = clock
        self._roots = roots
        self._namespace = Namespace(roots.proc)
        self._roster = Roster(refs)
        self._open = False
        self._backoff = Backoff()
        self._fault = Fault("NVML: not asked yet", "")
        self._bus: tuple[PciGpu, ...] = ()
        self._counted_at = float("-inf")
        self.absent = ""

    def measure(self, pids: Set[int]) -> list[Measurement]:
        now = self._clock()
        self._look_around(now)
        if not self._open:
            return self._all_unavailable()
        measured = {card.id: self._one(card, pids) for card in self._roster.cards.values()}
        if any(card.due(now) for card in self._roster.cards.values()):
            self._count()  # cards may have changed their places
            cards = self._roster.cards.values()
            measured = {card.id: self._again(card, measured.get(card.id), pids, now) for card in cards}
        found = list(measured.values())
        if all(m.unavailable for m in found):
            self._shut(now)  # nobody is harmed, and some faults pass only so
        else:
            self._backoff.reset()
        return found

    def close(self) -> None:
        """NVML counts its users: a driver can only be taken out when none is left."""
        self._shut(self._clock())

    def _look_around(self, now: float) -> None:
        """See which cards there are: at a low rate, and at once where the bus has changed."""
        well = self._open and all(card.handle is not None for card in self._roster.cards.values())
        if now - self._counted_at >= (_INVENTORY if well else _WHILE_FAULTY):
            self._counted_at = now
            bus = gpus(self._roots.sys, Vendor.NVIDIA)
            if bus != self._bus:
                self._bus = bus
                self._shut(now)
                self._backoff.reset()
            elif well:
                self._count()
        if not self._open and now >= self._backoff.at:
            self._reopen(now)

    def _reopen(self, now: float) -> None:
        try:
            self._library.require("nvmlInit")
            self._open = True
            self._roster.update(inventory(self._library, self._bus))
            self.absent = ""
            if not self._roster.cards:
                raise NvmlFault(GPU_NOT_FOUND, "no GPU is listed")
        except NvmlFault as fault:
            self._shut(now)
            self._fault = fault.fault(self._bus)
            for card in self._roster.cards.values():
                card.fault = self._fault
            nothing = self._refs is None and not self._bus and not self._roster.cards
            self.absent = str(fault) if nothing and fault.code in ABSENT else ""

    def _count(self) -> None:
        with suppress(NvmlFault):  # those that answer are as good as before; if none does, NVML is opened again
            self._roster.update(inventory(self._library, self._bus))

    def _shut(self, now: float) -> None:
        """Close NVML: no handle is good any more."""
        if self._open:
            self._library.close()
        self._open = False
        self._backoff.failed(now)
        for card in self._roster.cards.values():
            card.handle = None

    def _one(self, card: NvmlCard, pids: Set[int]) -> Measurement:
        if card.handle is None:
            return card.unavailable(card.fault or self._fault)
        try:
            return card.measure(self._library, self._namespace, pids, self._roots.proc)
        except NvmlFault as fault:
            card.handle, card.fault = None, fault.fault(self._bus)
            return card.unavailable(card.fault)

    def _again(self, card: NvmlCard, measured: Measurement | None, pids: Set[int], now: float) -> Measurement:
        """Measure a card that had no handle, if it has one by now; else leave it alone for a while."""
        if measured is not None and measured.unavailable is None:
            return measured
        found = self._one(card, pids)
        if found.unavailable is not None and card.due(now):
            card.backoff.failed(now)
        return found

    def _all_unavailable(self) -> list[Measurement]:
        """The cards that are known; before, those that are asked for, or that are on the bus."""
        if self._roster.cards:
            return [card.unavailable(card.fault or self._fault) for card in self._roster.cards.values()]
        if self._refs is not None:
            return [_paused(str(ref), "", self._fault) for ref in self._refs]
        if self._bus:
            return [_paused(str(index), card.address, self._fault) for index, card in enumerate(self._bus)]
        return [] if self.absent else [_paused("gpu", "", self._fault)]


def _paused(ref: str, pci: str, fault: Fault) -> Measurement:
    """A GPU of which nothing is known yet but that it is there, or asked for."""
    return Measurement(
        id=pci or ref,
        ref=ref,
        kind=DeviceKind.GPU,
        name="NVIDIA GPU",
        vendor=Vendor.NVIDIA,
        pci=pci,
        unavailable=fault.why,
        remedy=fault.remedy,
    )
