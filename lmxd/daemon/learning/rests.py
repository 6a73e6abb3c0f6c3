"""Bytes that instances took beside weights and cache, which the next start of the same sort is promised."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from lmxd.catalog.catalog import Catalog
from lmxd.core.words import DeviceId, DeviceReading, InstanceId
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.launching.launches import Launches
from lmxd.devices.measurement import HOST
from lmxd.errors import LmxdError
from lmxd.estimate.rests import KnownRests, Rest
from lmxd.files import decoded, replace_text

log = logging.getLogger(__name__)

_SETTLED = 2.0
"""Seconds from readiness to the first look by which less is promised: each of its processes has to be there."""
_MOST_KEPT = 512
"""Sorts of launches that are kept; the oldest go first."""


class Whose(NamedTuple):
    """The model and the card that a figure is about, for those who want to forget it."""

    model: str
    card: str


class Seen(NamedTuple):
    """The most that an instance was seen to take, and whether that was also long enough after it was ready."""

    most: int
    settled: bool


_UNSEEN: Final = Seen(0, False)


class Rests:
    """The figures in the file ``path``: key -> [model, card, bytes], the oldest first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whose: dict[str, Whose] = {}
        sizes: dict[str, int] = {}
        with suppress(OSError, ValueError):
            found = decoded(path.read_text())
            for key, entry in found.items() if isinstance(found, dict) else ():
                match entry:
                    case [str(model), str(card), int(size)] if size > 0:
                        self._whose[key], sizes[key] = Whose(model, card), size
        self.known = KnownRests(sizes)
        self._seen: dict[InstanceId, Seen] = {}

    def see(self, begun: float, readings: Iterable[DeviceReading], launches: Launches, catalog: Catalog) -> None:
        """One look at the devices, and when it began. The catalog's next estimates are by what was learned."""
        self._seen = {instance: seen for instance, seen in self._seen.items() if launches.get(instance) is not None}
        for reading in readings:
            for instance, taken in (reading.taken or {}).items():
                launched = launches.get(instance)
                if taken is None or launched is None or launched.adopted or launched.stopping:
                    continue  # of one that ends, some processes may be gone
                if launched.ready_at is None or launched.ready_at > begun or launched.rests:
                    continue  # weights may be on their way still, or in RAM
                if reading.device in (launched.plan.gpu_ids or (HOST,)):
                    before = self._seen.get(instance, _UNSEEN)
                    seen = Seen(max(taken.total, before.most), launched.ready_at + _SETTLED <= begun)
                    if seen != before:  # else nothing is learned, and an estimate takes a while
                        self._seen[instance] = seen
                        self._look(launched, seen, catalog)

    def _look(self, launched: Launched, seen: Seen, catalog: Catalog) -> None:
        plan = launched.plan
        if not catalog.has(plan.profile, plan.variant):
            return  # a reload has changed its profile
        sizing, gpus = catalog.resolve(plan.profile).sizing, [DeviceId(gpu) for gpu in plan.gpu_ids]
        try:
            rest = sizing.rest(plan.launch, gpus)
        except LmxdError:
            return  # its directory is gone
        if rest is not None and (seen.settled or seen.most > rest.promised):
            self._note(rest, seen.most, Whose(plan.profile, catalog.installed(plan.engine).called(gpus)))
            catalog.rests = self.known

    def _note(self, rest: Rest, taken: int, whose: Whose) -> None:
        found = self.known.seeing(rest, taken)
        if found is self.known:
            return
        log.info("%s: takes %d MiB beside weights and cache", whose.model, found.sizes[rest.key] >> 20)
        self._whose.pop(rest.key, None)
        self._whose[rest.key] = whose
        for old in list(self._whose)[:-_MOST_KEPT]:
            del self._whose[old]
        self._keep(found)

    def listed(self) -> list[tuple[Whose, int]]:
        """Each figure in bytes, and what it is about."""
        return [(whose, self.known.sizes[key]) for key, whose in self._whose.items()]

    def forget(self, wanted: Callable[[Whose], bool]) -> int:
        """Drop those of which ``wanted`` says so; how many."""
        dropped = [key for key, whose in self._whose.items() if wanted(whose)]
        for key in dropped:
            del self._whose[key]
        if dropped:
            self._keep(self.known)
        return len(dropped)

    def _keep(self, found: KnownRests) -> None:
        self.known = KnownRests({key: found.sizes[key] for key in self._whose})
        document = {key: [*whose, self.known.sizes[key]] for key, whose in self._whose.items()}
        replace_text(self._path, json.dumps(document))
