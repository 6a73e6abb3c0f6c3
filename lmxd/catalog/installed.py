"""The engines of a configuration, as they are found on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from lmxd.catalog.gpu_support import GpuSupport, cards
from lmxd.config.engine import EngineSettings
from lmxd.core.words import DeviceId
from lmxd.devices.measurement import Measurement
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.learned import RAM, Card


@dataclass(slots=True)
class InstalledEngine:
    """One engine as it is found on this machine: its build, the GPUs that it can use, and the estimates for it.

    ``cards``: the GPUs as the estimator knows them, with the build and its backend on each.
    """

    settings: EngineSettings
    build: str = ""
    estimator: Estimator = field(default_factory=partial(Estimator, patient=False))
    usable: GpuSupport = field(default_factory=GpuSupport)
    cards: Mapping[DeviceId, Card] = field(default_factory=dict)

    def see(self, usable: GpuSupport, measured: Sequence[Measurement]) -> None:
        """Let estimates be those of the GPUs that were measured."""
        self.usable, self.cards = usable, cards(measured, usable, self.build)

    def card(self, gpu: DeviceId) -> Card:
        """The card of a GPU, for the estimator; one of which nothing but the build is known, if it is not there."""
        return self.cards.get(gpu, Card(build=self.build))

    def called(self, gpus: Sequence[DeviceId]) -> str:
        """The name of the card that a launch on ``gpus`` is on; of RAM without any."""
        return self.card(gpus[0]).name if gpus else RAM
