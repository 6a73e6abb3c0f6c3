"""Watches the bytes that ready instances really take, and notes them for the estimator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lmxd.catalog.catalog import Catalog
from lmxd.core.words import DeviceId, DeviceReading, InstanceId
from lmxd.daemon.launching.launched import Launched
from lmxd.daemon.launching.launches import Launches
from lmxd.daemon.learning.observations import Observations
from lmxd.devices.measurement import HOST
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import file_key, fingerprint
from lmxd.estimate.learned import NOTHING_LEARNED, RAM, Card, Observation
from lmxd.estimate.overhead import MIB

_WORTH_NOTING = 2 * MIB
"""The least growth that is written down: CUDA hands out memory in such pieces."""


class Observer:
    """Notes of each instance the first look when it is ready, and every new high after its first whole micro-batch.

    A look may have begun before an instance became ready, with its weights still on their way: it does not count.
    """

    def __init__(self, observations: Observations) -> None:
        self.observations = observations
        self._seen: dict[InstanceId, Observation] = {}

    def see(self, begun: float, readings: Iterable[DeviceReading], launches: Launches, catalog: Catalog) -> None:
        """One look at the devices, and when it began."""
        present: set[InstanceId] = set()
        for reading in readings:
            for instance, taken in (reading.taken or {}).items():
                present.add(instance)
                launched = launches.get(instance)
                if (
                    taken is None
                    or launched is None
                    or launched.ready_at is None
                    or launched.ready_at > begun
                    or launched.adopted
                    or launched.rests
                ):
                    continue
                if len(launched.plan.gpus) > 1 or launched.plan.estimated is None:
                    continue  # its parts are not told apart, or no formula is about it
                if reading.device not in (launched.plan.gpu_ids or (HOST,)):
                    continue  # its share of RAM beside a GPU, or of a pool
                self._see(instance, launched, reading.device, taken.total, catalog)
        for gone in self._seen.keys() - present:
            del self._seen[gone]

    def _see(self, instance: InstanceId, launched: Launched, device: DeviceId, total: int, catalog: Catalog) -> None:
        seen = self._seen.get(instance)
        if seen is None:
            seen = self._first(launched, device, total, catalog)
            if seen is None:
                return
            self._seen[instance] = seen
            self.observations.note(seen)
        if launched.prompted >= launched.plan.launch.ubatch and total > seen.prompted + _WORTH_NOTING:
            self._seen[instance] = seen = replace(seen, prompted=total)
            self.observations.note(replace(seen, count=0))

    def _first(self, launched: Launched, device: DeviceId, total: int, catalog: Catalog) -> Observation | None:
        plan, file = launched.plan, launched.plan.estimated
        assert file is not None
        if not catalog.has(plan.profile, plan.variant):
            return None  # a reload has changed its profile or its engine: the build that it runs is not known any more
        engine = catalog.installed(plan.engine)
        card = engine.card(device)
        try:
            prior = replace(engine.estimator, learned=NOTHING_LEARNED)
            found = prior.estimate(file, plan.launch, (card,) if device != HOST else (), plan.companions)
        except LmxdError:
            return None  # the file is gone, or only its user knows what it takes
        place = found.parts.device if device != HOST else found.parts.host
        context = prior.context(card) if device != HOST else place.overhead
        return Observation(
            card=card if device != HOST else Card(name=RAM, build=card.build),
            launch=fingerprint(file, plan.launch, plan.companions),
            file=file_key(file, plan.companions),
            model=plan.profile,
            buffers=int(launched.buffers * MIB) or place.total - place.overhead,
            predicted=place.total - context,
            loaded=total,
            prompted=0,
        )
