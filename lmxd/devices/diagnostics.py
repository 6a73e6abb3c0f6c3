"""The diagnostics of devices, in words: why one is unavailable and what to do, and what to know of one that works."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from lmxd.devices.measurement import Measurement
from lmxd.text import short_id

log = logging.getLogger(__name__)


class MeasuredDevice(Protocol):
    """A device by its names, and why it is unavailable: as it was measured, or as it was told to a client."""

    @property
    def id(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def unavailable(self) -> str | None: ...
    @property
    def remedy(self) -> str: ...


def diagnostics(measured: Iterable[Measurement]) -> list[str]:
    """One sentence for each."""
    return [words for found in measured for words in _of(found)]


def fault(found: MeasuredDevice) -> str:
    """The sentence on a device that is not available."""
    remedy = f"; remedy: {found.remedy}" if found.remedy else ""
    return f"{called(found)}, {found.name}, is unavailable: {found.unavailable}{remedy}"


def called(found: MeasuredDevice) -> str:
    """A device as it is configured, and by its id where that is something else."""
    name = short_id(found.id)
    return name if found.ref == found.id else f"{found.ref}: {name}"


def _of(found: Measurement) -> list[str]:
    hints = [f"{called(found)}: {hint}" for hint in found.hints]
    return hints if found.unavailable is None else [fault(found), *hints]


class DiagnosticLog:
    """Writes each diagnostic to the log when it begins, and once more when it is over."""

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
