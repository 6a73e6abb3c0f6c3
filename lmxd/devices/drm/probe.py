"""The probe of AMD's and Intel's cards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from lmxd.devices import pci
from lmxd.devices.driver_calls import CallRound, DriverCalls
from lmxd.devices.drm import kfd
from lmxd.devices.drm.cards import DrmCard
from lmxd.devices.drm.client_scan import ClientScan
from lmxd.devices.drm.figures import CardFigures, Unreadable
from lmxd.devices.drm.intel import JOIN
from lmxd.devices.drm.ioctls import Ioctl, kernel_ioctl
from lmxd.devices.drm.kernel_files import text_or_nothing
from lmxd.devices.drm.names import LISTS, name
from lmxd.devices.drm.reader import SILENT, CardList, CardReader, CardReading
from lmxd.devices.drm.uses import CardUse
from lmxd.devices.measurement import MEMORY, DeviceKind, Measurement
from lmxd.devices.roots import Roots

_PERFMON: Final = (
    "at least so much is in use, as far as it can be seen: give lmxd CAP_PERFMON, as lmxd.service does, and the kernel"
    " says all of it"
)


class DrmProbe:
    """Measures the cards in ``wanted``: the name that each was configured by -> PCI address or GPU-<unique id>.

    None: all cards that there are at each look. A processor's GPU without a driver is none: it is left alone.
    """

    def __init__(
        self,
        wanted: Mapping[str, str] | None,
        *,
        roots: Roots = Roots(),
        ioctl: Ioctl = kernel_ioctl,
        clock: Callable[[], float] = time.monotonic,
        lists: tuple[Path, ...] = LISTS,
        calls: DriverCalls | None = None,
    ) -> None:
        self._wanted = wanted
        self._roots = roots
        self._lists = lists
        self._reader = CardReader(roots, ioctl, clock, calls)
        self._clients = ClientScan(roots, clock)
        self._last: dict[str, Measurement] = {}

    def measure(self, pids: Set[int]) -> list[Measurement]:
        driver = CallRound(self._reader.calls)
        listed = self._reader.find(driver)
        ours = pids if listed.nodes else frozenset[int]()  # a machine without such cards has little to do
        before = self._clients.of(ours, listed.nodes, driver)
        readings = self._reader.read(listed, driver)
        after = self._clients.of(ours, listed.nodes, driver)
        chosen = self._chosen(readings, listed)
        others = self._clients.others(after, pids, listed.nodes, driver) if any(chosen.values()) else ()
        counted = [reading for reading in chosen.values() if reading is not None and reading.figures is not None]
        rocm = driver.ask({r.card.address: partial(kfd.processes, self._roots, r.node) for r in counted})
        measured = []
        for ref, reading in chosen.items():
            if reading is not None and reading.card.address in driver.late:
                reading = replace(reading, figures=None, fault=self._reader.hang)
            if reading is None or reading.figures is None:
                measured.append(self._unavailable(ref, reading, listed))
            else:
                address = reading.card.address
                use = CardUse.of(address, before, after, others, rocm[address])
                measured.append(self._available(ref, reading, reading.figures, use, pids))
        self._last |= {m.id: m for m in measured if m.unavailable is None}
        return measured

    def close(self) -> None:
        """Nothing is kept open."""

    def _chosen(self, readings: list[CardReading], listed: CardList) -> dict[str, CardReading | None]:
        """The reading by the name that a card goes by; None for one that is not there, or not any more.

        While the kernel does not tell which cards there are, and never did, there may be one.
        """
        if self._wanted is None and listed.late and not readings:
            return {SILENT: None}
        if self._wanted is not None:
            names = {key: reading for reading in reversed(readings) for key in (reading.card.address, reading.id)}
            return {ref: names.get(name) or names.get(pci.address(name)) for ref, name in self._wanted.items()}
        counted: dict[str, CardReading | None] = {r.id: r for r in readings if r.card.driver or not r.integrated}
        return counted | {lost: None for lost in self._last if not any(r.id == lost for r in readings)}

    def _available(
        self, ref: str, reading: CardReading, figures: CardFigures, use: CardUse, pids: Set[int]
    ) -> Measurement:
        card = reading.card
        return Measurement(
            id=reading.id,
            ref=ref,
            kind=DeviceKind.GPU,
            name=name(card, self._lists),
            driver=f"{card.driver} {self._release()}",
            capacity=figures.total,
            used=min(figures.total, max(figures.used or 0, use.at_least(figures))),
            processes=use.by_pid(figures, pids),
            partial=use.partial,
            lower_bound=figures.used is None,
            hints=tuple(self._hints(card, figures)),
            vendor=card.vendor,
            pci=card.address,
            pool=MEMORY if figures.unified else None,
            own=figures.own,
            own_used=figures.own_used,
            rocm=reading.rocm,
        )

    def _unavailable(self, ref: str, reading: CardReading | None, listed: CardList) -> Measurement:
        known = next((m for m in self._last.values() if m.ref == ref), None)
        if reading is None or reading.fault is None:
            wanted = ref if self._wanted is None else self._wanted[ref]
            why = f"the card {known.pci} is gone" if known else f"there is no AMD or Intel GPU {wanted}"
            fault = self._reader.hang if listed.late else Unreadable(why)
            known = known or Measurement(id=wanted, ref=ref, kind=DeviceKind.GPU, name="GPU")
            return replace(known, unavailable=str(fault), remedy=fault.remedy, hints=(), lower_bound=False)
        card = reading.card
        return Measurement(
            id=reading.id,
            ref=ref,
            kind=DeviceKind.GPU,
            name=name(card, self._lists),
            unavailable=str(reading.fault),
            remedy=reading.fault.remedy,
            vendor=card.vendor,
            pci=card.address,
            pool=MEMORY if reading.integrated else None,
        )

    def _hints(self, card: DrmCard, figures: CardFigures) -> Iterator[str]:
        if figures.used is None and not figures.unified:
            yield _PERFMON
        node = self._roots.dev / "dri" / card.render
        if card.render and node.exists() and not os.access(node, os.R_OK | os.W_OK, effective_ids=True):
            yield f"/dev/dri/{card.render} may not be opened, so that no engine can use the card: {JOIN}"

    def _release(self) -> str:
        return text_or_nothing(self._roots.proc / "sys/kernel/osrelease") or os.uname().release
