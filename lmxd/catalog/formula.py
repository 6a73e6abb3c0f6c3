"""The estimator's formula for one model file, on the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lmxd.catalog.beside import Beside
from lmxd.core.words import DeviceId
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import DEFAULT_CONTEXT, Estimate, inputs
from lmxd.estimate.learned import Card
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload, offloads


@dataclass(frozen=True, kw_only=True)
class Formula:
    """Computes the bytes of launches of one model file, by the estimator.

    ``file``: its path, or the error that is raised when the file is needed; ``files``: likewise those beside it.
    ``stretched``: the profile allows contexts beyond the trained one; ``longest``: the most tokens of one conversation,
    where the slots share a cache of more. ``cards``: GPUs by id; a GPU that is not among them counts as ``unknown``.
    """

    name: str
    file: Path | LmxdError
    files: Beside | LmxdError
    stretched: bool
    estimator: Estimator
    cards: Mapping[DeviceId, Card]
    unknown: Card
    longest: int | None = None

    @property
    def path(self) -> Path:
        """The path. LmxdError ``model_file_missing`` or, if it may not be opened, ``model_file_forbidden``."""
        if isinstance(self.file, LmxdError):
            raise self.file
        return self.file

    @property
    def beside(self) -> Beside:
        """The files beside the model. LmxdError as for ``path``, if one of them cannot be used."""
        if isinstance(self.files, LmxdError):
            raise self.files
        return self.files

    @cached_property
    def trained(self) -> int | None:
        """The context for which the model was trained; None if its file does not say."""
        try:
            return read_model(self.path).context
        except LmxdError:
            return None  # ``estimate`` raises the error

    @cached_property
    def _estimates(self) -> dict[tuple[Launch, tuple[Card, ...]], Estimate]:
        return {}

    def context(self, said: int | None) -> int:
        """The context of a launch that names none, by the word of its profile.

        0 stands for the trained one, as to llama-server; None for enough for most prompts, and at most the trained one.
        """
        if said:
            return said
        trained = self.trained or DEFAULT_CONTEXT
        return trained if said == 0 else min(DEFAULT_CONTEXT, trained)

    def layers(self) -> int | None:
        """The number of layers with the output; None if the file cannot be read: then it cannot be divided."""
        try:
            return read_model(self.path).all_layers + 1
        except LmxdError:
            return None

    def offloads(self, launch: Launch) -> tuple[Offload, ...]:
        """The ways to divide a launch between a GPU and RAM; none if the file cannot be read."""
        try:
            return offloads(read_model(self.path), launch)
        except LmxdError:
            return ()

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        """The bytes of a launch on ``gpus``; in RAM if there are none.

        LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` for a context beyond the trained
        one or for settings that exclude each other.
        """
        path, companions = self.path, self.beside.companions
        context = launch.context if self.longest is None else min(launch.context, self.longest)
        if self.trained is not None and context > self.trained and not self.stretched:
            raise LmxdError(
                "invalid_params",
                f"ctx is {context}, but {self.name} was trained for {self.trained} tokens",
                f"ask for at most {self.trained}, or set rope of models.{self.name}",
            )
        cards = tuple(self.cards.get(gpu, self.unknown) for gpu in gpus)
        if (launch, cards) not in self._estimates:  # GPUs of one kind need one estimate
            self._estimates[launch, cards] = self.estimator.estimate(path, launch, cards, companions)
        return self._estimates[launch, cards]

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        """The figures that go into the closed form; empty for a model that it does not cover."""
        try:
            return inputs(read_model(self.path), launch)
        except LmxdError:
            return {}

    def is_warm(self, launch: Launch) -> bool:
        """Whether ``estimate`` takes no time: the header is read, and a dry run is made where one is needed."""
        try:
            companions = self.beside.companions
            return all(self.estimator.settled(self.path, launch, cards, companions) for cards in self._targets())
        except LmxdError:
            return True  # there is nothing to read

    def read(self, launch: Launch) -> None:
        """Read the header, and make a dry run where the closed form is unsure. It may take a while."""
        patient = replace(self.estimator, patient=True)
        for cards in self._targets():
            patient.estimate(self.path, launch, cards, self.beside.companions)

    def _targets(self) -> list[tuple[Card, ...]]:
        """The places for which a launch is estimated: each kind of GPU on this machine, or RAM."""
        return [(card,) for card in dict.fromkeys(self.cards.values())] or [()]
