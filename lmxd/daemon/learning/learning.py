"""All that is learned from running instances: what launches take, and what the next estimates are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmxd.catalog.catalog import Catalog
from lmxd.core.words import DeviceReading
from lmxd.daemon.launching.launches import Launches
from lmxd.daemon.learning.contexts import Contexts
from lmxd.daemon.learning.observations import Observations
from lmxd.daemon.learning.observer import Observer
from lmxd.daemon.learning.peaks import Peaks
from lmxd.daemon.learning.rests import Rests


class Learning:
    """The parts that learn, and their files in the directory ``state``."""

    def __init__(self, state: Path) -> None:
        self.observations = Observations(state / "observations.json")
        self.peaks = Peaks(state / "peaks.json")
        self.rests = Rests(state / "rests.json")
        self.contexts = Contexts(state / "contexts.json")
        self._observer = Observer(self.observations)

    def tell(self, catalog: Catalog) -> None:
        """Let the estimates of a catalog be by what was learned."""
        catalog.peaks, catalog.rests, catalog.starts = self.peaks.sizes, self.rests.known, self.contexts.known

    def see(self, begun: float, readings: Sequence[DeviceReading], launches: Launches, catalog: Catalog) -> None:
        """One look at the devices, and when it began."""
        self._observer.see(begun, readings, launches, catalog)
        self.peaks.see(readings, launches)
        self.rests.see(begun, readings, launches, catalog)

    def forget(self, model: str | None, card: str | None, catalog: Catalog) -> int:
        """Forget what was learned of a model, and on a card; of all without. Returns how many figures.

        Of a peak it is not known on which card it was seen, and of the contexts of conversations it does not matter.
        """

        def wanted(its_model: str, its_card: str) -> bool:
            return model in (None, its_model) and card in (None, its_card)

        count = self.observations.forget(lambda o: wanted(o.model, o.card.name))
        if card is None:
            count += self.peaks.forget(lambda variant: model is None or catalog.has(model, variant))
            count += self.contexts.forget(lambda profile: model in (None, profile))
        return count + self.rests.forget(lambda whose: wanted(*whose))
