"""The troubles of devices in words: why one is unavailable and what to do, and what to know of one that works."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lmxd.devices.measurement import Measurement

log = logging.getLogger(__name__)


def troubles(measured: Iterable[Measurement]) -> list[str]:
    """One sentence for each."""
    return [words for found in measured for words in _of(found)]


def _of(found: Measurement) -> list[str]:
    name = found.id if found.ref == found.id else f"{found.ref} ({found.id})"
    hints = [f"{name}: {hint}" for hint in found.hints]
    if found.unavailable is None:
        return hints
    remedy = f"; remedy: {found.remedy}" if found.remedy else ""
    return [f"{name}, {found.name}, is unavailable: {found.unavailable}{remedy}", *hints]


class TroubleLog:
    """Writes each trouble to the log when it begins, and once more when it is over."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}

    def see(self, measured: Iterable[Measurement]) -> None:
        """One look at the devices."""
        now = {found.id: _of(found) for found in measured}
        for device, words in now.items():
            before = self._told.get(device, [])
            for line in words:
                if line not in before:
                    log.warning("%s", line)
            if before and not words:
                log.warning("%s: this is over", before[0])
        self._told = {device: words for device, words in now.items() if words}
