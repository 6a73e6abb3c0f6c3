"""All that is learned from running instances: what launches take, and what the next estimates are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmxd.catalog.catalog import Catalog
from lmxd.core.decisions import Decision
from lmxd.core.words import DeviceReading, User
from lmxd.daemon.launching.launches import Launches
from lmxd.daemon.learning.contexts import Contexts
from lmxd.daemon.learning.conversations import Conversations
from lmxd.daemon.learning.growths import Growths
from lmxd.daemon.learning.observations import Observations
from lmxd.daemon.learning.observer import Observer
from lmxd.daemon.learning.peaks import Peaks
from lmxd.daemon.learning.rests import Rests
from lmxd.daemon.present import Present


class Learning:
    """The parts that learn, and their files in the directory ``state``."""

    def __init__(self, state: Path, present: Present) -> None:
        self._present = present
        self.observations = Observations(state / "observations.json")
        self.peaks = Peaks(state / "peaks.json")
        self.rests = Rests(state / "rests.json")
        self.contexts = Contexts(state / "contexts.json")
        self.conversations = Conversations(self._over)
        self.growths = Growths()
        self._observer = Observer(self.observations)

    def tell(self, catalog: Catalog) -> None:
        """Let the estimates of a catalog be by what was learned."""
        catalog.peaks, catalog.rests, catalog.starts = self.peaks.sizes, self.rests.known, self.contexts.known

    def see(self, begun: float, readings: Sequence[DeviceReading], launches: Launches, catalog: Catalog) -> None:
        """One look at the devices, and when it began."""
        self._observer.see(begun, readings, launches, catalog)
        self.peaks.see(readings, launches)
        self.rests.see(begun, readings, launches, catalog)
        self.contexts.write()

    def observe(self, decision: Decision) -> None:
        """One decision that is carried out: whose conversations go where."""
        self.conversations.observe(decision)
        self.growths.observe(decision)

    def _over(self, profile: str, user: User | None, used: int) -> None:
        """A conversation is over that had so many tokens: the next leases start by it."""
        catalog = self._present.catalog
        if profile in catalog.config.models and (steps := catalog.steps(profile)):
            self.contexts.seen(profile, user, used, steps)
            catalog.starts = self.contexts.known

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
