"""The most that each variant of an engine that only its user knows took. Its next start is promised that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from lmxd.core.words import DeviceReading
from lmxd.daemon.launching.launches import Launches
from lmxd.devices.measurement import HOST
from lmxd.engines.engine import EngineKind
from lmxd.files import decoded, replace_text

_WORTH_NOTING = 16 * 2**20
"""The least growth that is written down: the file is replaced as a whole each time."""


class Peaks:
    """The largest bytes seen of each variant, kept in a file. Its format: variant -> bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.sizes: dict[str, int] = {}
        with suppress(OSError, ValueError):
            found = decoded(path.read_text())
            if isinstance(found, dict):
                self.sizes = {str(k): v for k, v in found.items() if isinstance(v, int) and v > 0}

    def see(self, readings: Iterable[DeviceReading], launches: Launches) -> None:
        """One look at the devices."""
        grown = False
        for reading in readings:
            for instance, taken in (reading.taken or {}).items():
                launched = launches.get(instance)
                if taken is None or launched is None or launched.plan.kind is not EngineKind.COMMAND:
                    continue
                if reading.device not in (launched.plan.gpu_ids or (HOST,)):
                    continue  # its share of RAM beside a GPU
                if taken.total > max(launched.plan.size, self.sizes.get(launched.plan.variant, 0)) + _WORTH_NOTING:
                    self.sizes[launched.plan.variant] = taken.total
                    grown = True
        if grown:
            self._write()

    def forget(self, wanted: Callable[[str], bool]) -> int:
        """Drop those of the variants that are ``wanted``; how many."""
        found = [variant for variant in self.sizes if wanted(variant)]
        for variant in found:
            del self.sizes[variant]
        if found:
            self._write()
        return len(found)

    def _write(self) -> None:
        replace_text(self._path, json.dumps(self.sizes))
