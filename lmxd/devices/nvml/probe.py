"""The probe of NVIDIA's cards.

Faults are states of a device, not exceptions. A card that fails is looked for again by itself, with pauses that grow,
and the others stay as they are; one of which a call hangs keeps its handle and is asked again when that comes back.
NVML is closed and opened again only where none of its cards answers, or where the
PCI bus shows that cards or drivers came or went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from lmxd.devices.backoff import Backoff
from lmxd.devices.driver_calls import CallRound, DriverCalls
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.devices.namespace import Namespace
from lmxd.devices.nvml.card import NvmlCard
from lmxd.devices.nvml.faults import ABSENT, GPU_NOT_FOUND, Fault, NvmlFault, NvmlHang
from lmxd.devices.nvml.inventory import DRIVER, inventory
from lmxd.devices.nvml.library import Library
from lmxd.devices.nvml.registry import CardRegistry
from lmxd.devices.pci import PciGpu, gpus
from lmxd.devices.roots import Roots
from lmxd.vendor import Vendor

_INVENTORY: Final = 10.0
_WHILE_FAULTY: Final = 1.0
"""Seconds between two looks at what cards there are: usually, and while one that is asked for does not answer."""


class NvmlProbe:
    """Measures the cards in ``refs``: index, UUID or PCI id, as configured; None for all.

    ``nvml`` is the pynvml module or something that behaves like it. ``absent``: why there is no card, where there is
    none: it is looked for again all the same. ``calls``: those under way, which other probes may share.
    """

    def __init__(
        self,
        nvml: Any,
        refs: tuple[int | str, ...] | None,
        clock: Callable[[], float] = time.monotonic,
        roots: Roots = Roots(),
        calls: DriverCalls | None = None,
    ) -> None:
        self._library = Library(nvml)
        self._refs = refs
        self._clock = clock
        self._roots = roots
        self._calls = calls or DriverCalls()
        self._namespace = Namespace(roots.proc)
        self._registry = CardRegistry(refs)
        self._listed = False
        """Whether NVML is open, and the cards are those that it lists."""
        self._hung = False
        """Whether a call of the last look did not come back: NVML cannot be closed under it."""
        self._backoff = Backoff()
        self._fault = Fault("NVML: not asked yet", "")
        self._bus: tuple[PciGpu, ...] = ()
        self._counted_at = float("-inf")
        self.absent = ""

    def measure(self, pids: Set[int]) -> list[Measurement]:
        driver = CallRound(self._calls)
        try:
            return self._measured(pids, driver, self._clock())
        finally:
            self._hung = bool(driver.late)

    def _measured(self, pids: Set[int], driver: CallRound, now: float) -> list[Measurement]:
        self._look_around(now, driver)
        if not self._listed:
            return self._all_unavailable()
        measured = self._each(list(self._registry.cards.values()), pids, driver)
        if any(card.due(now) for card in self._registry.cards.values()):
            self._count(driver)  # cards may have changed their places
            measured = self._again(measured, pids, driver, now)
        found = list(measured.values())
        if any(m.unavailable is not None for m in found):  # CUDA may leave that one out, and count otherwise
            found = [replace(m, cuda=None) for m in found]
        if any(m.unavailable is None for m in found):
            self._backoff.reset()
        elif not driver.late:
            self._shut(now, driver)  # nobody is harmed, and some faults pass only so
        return found

    def close(self) -> None:
        """NVML counts its users: a driver can only be taken out when none is left."""
        if not self._hung:
            self._shut(self._clock(), CallRound(self._calls))

    def _look_around(self, now: float, driver: CallRound) -> None:
        """See which cards there are: at a low rate, and at once where the bus has changed."""
        well = self._listed and all(card.handle is not None for card in self._registry.cards.values())
        if now - self._counted_at >= (_INVENTORY if well else _WHILE_FAULTY):
            self._counted_at = now
            bus = gpus(self._roots.sys, Vendor.NVIDIA)
            if bus != self._bus and not (self._listed and self._hung):
                self._bus = bus
                self._shut(now, driver)
                self._backoff.reset()
            elif well:
                self._count(driver)
        if not self._listed and now >= self._backoff.at:
            self._reopen(now, driver)

    def _reopen(self, now: float, driver: CallRound) -> None:
        try:
            if not driver.ask({DRIVER: self._opened}):
                raise NvmlHang(self._calls.late())
            self._registry.update(inventory(self._library, self._bus, driver, self._calls.late()))
            self._listed, self.absent = True, ""
            if not self._registry.cards:
                raise NvmlFault(GPU_NOT_FOUND, "no GPU is listed")
        except NvmlFault as fault:
            if not isinstance(fault, NvmlHang):  # else it is asked at each look, which takes no time while it hangs
                self._shut(now, driver)
            self._fault = fault.fault(self._bus)
            for card in self._registry.cards.values():
                card.fault = self._fault
            nothing = self._refs is None and not self._bus and not self._registry.cards
            self.absent = str(fault) if nothing and fault.code in ABSENT else ""

    def _opened(self) -> bool:
        self._library.open()
        return True

    def _count(self, driver: CallRound) -> None:
        with suppress(NvmlFault):  # those that answer are as good as before; if none does, NVML is opened again
            self._registry.update(inventory(self._library, self._bus, driver, self._calls.late()))

    def _shut(self, now: float, driver: CallRound) -> None:
        """Close NVML: no handle is good any more."""
        if self._library.is_open:
            driver.ask({DRIVER: self._library.close})
        self._listed = False
        self._backoff.failed(now)
        for card in self._registry.cards.values():
            card.handle = None

    def _each(self, cards: Iterable[NvmlCard], pids: Set[int], driver: CallRound) -> dict[str, Measurement]:
        """The measurements of cards by id: all at once, but the slices of one GPU after each other."""
        cards = list(cards)
        at: dict[str, list[NvmlCard]] = {}
        for card in (card for card in cards if card.handle is not None):
            at.setdefault(card.place, []).append(card)
        answers = driver.ask({place: partial(self._asked, mine, pids) for place, mine in at.items()})
        said = {
            card.id: answer for place, mine in answers.items() for card, answer in zip(at[place], mine, strict=True)
        }
        return {card.id: self._one(card, said.get(card.id) or NvmlHang(self._calls.late())) for card in cards}

    def _asked(self, cards: Sequence[NvmlCard], pids: Set[int]) -> list[Measurement | NvmlFault]:
        found: list[Measurement | NvmlFault] = []
        for card in cards:
            try:
                found.append(card.measure(self._library, self._namespace, pids, self._roots.proc))
            except NvmlFault as fault:
                found.append(fault)
        return found

    def _one(self, card: NvmlCard, said: Measurement | NvmlFault) -> Measurement:
        if card.handle is None:
            return card.unavailable(card.fault or self._fault)
        if isinstance(said, Measurement):
            return said
        if isinstance(said, NvmlHang):  # its handle is as good as before
            return card.unavailable(said.fault())
        card.handle, card.fault = None, said.fault(self._bus)
        return card.unavailable(card.fault)

    def _again(
        self, measured: Mapping[str, Measurement], pids: Set[int], driver: CallRound, now: float
    ) -> dict[str, Measurement]:
        """Measure those that had no handle, if they have one by now; else leave them alone for a while."""
        cards = self._registry.cards
        good = {name: m for name, m in measured.items() if m.unavailable is None}
        anew = self._each([card for card in cards.values() if card.id not in good], pids, driver)
        for name, found in anew.items():
            if found.unavailable is not None and cards[name].due(now):
                cards[name].backoff.failed(now)
        return {name: good.get(name) or anew[name] for name in cards}

    def _all_unavailable(self) -> list[Measurement]:
        """The cards that are known; before, those that are asked for, or that are on the bus."""
        if self._registry.cards:
            return [card.unavailable(card.fault or self._fault) for card in self._registry.cards.values()]
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
