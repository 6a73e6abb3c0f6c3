"""One model file, and the estimator's formula for it on the GPUs that are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import DEFAULT_CONTEXT, Estimate, inputs
from lmxd.estimate.learned import Card
from lmxd.gguf.launch import Launch


@dataclass(frozen=True, kw_only=True)
class Formula:
    """The bytes of launches of one model file, by the estimator.

    ``file``: where it is, or why it cannot be used; only those who need the file fail.

    ``stretched``: a flag of the profile has it run beyond the context that it was trained for.
    ``cards``: GPUs by id; one that is not among them is ``unknown``.
    """

    name: str
    file: Path | LmxdError
    stretched: bool
    estimator: Estimator
    cards: Mapping[str, Card]
    unknown: Card

    @property
    def path(self) -> Path:
        """LmxdError ``model_file_missing`` if it cannot be found, ``model_file_forbidden`` if it may not be opened."""
        if isinstance(self.file, LmxdError):
            raise self.file
        return self.file

    @cached_property
    def trained(self) -> int | None:
        """The context that it was trained for; None if its file does not say."""
        try:
            return read_model(self.path).context
        except LmxdError:
            return None  # what is wrong comes up when its bytes are asked for

    def usual_context(self) -> int:
        """As much as most prompts need, but no more than the model was trained for."""
        return DEFAULT_CONTEXT if self.trained is None else min(DEFAULT_CONTEXT, self.trained)

    def layers(self) -> int | None:
        """With the output; None for a model that only its user knows of, which cannot be divided."""
        try:
            return read_model(self.path).all_layers + 1
        except LmxdError:
            return None

    def estimate(self, launch: Launch, gpus: Sequence[str]) -> Estimate:
        """The bytes of a launch on ``gpus``; without any: in RAM.

        LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` for a context that the model was
        not trained for or settings that exclude each other.
        """
        path = self.path
        if self.trained is not None and launch.context > self.trained and not self.stretched:
            raise LmxdError(
                "invalid_params",
                f"ctx is {launch.context}, but {self.name} was trained for {self.trained} tokens",
                f"ask for at most {self.trained}, or add --rope-scaling to its engine_flags",
            )
        return self.estimator.estimate(path, launch, [self.cards.get(gpu, self.unknown) for gpu in gpus])

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        """What goes into the closed form; nothing for a model that it does not cover."""
        try:
            return inputs(read_model(self.path), launch)
        except LmxdError:
            return {}

    def is_warm(self, launch: Launch) -> bool:
        """Whether the header has been read, and the engine asked where it must be: then deciding takes no time."""
        try:
            return all(self.estimator.settled(self.path, launch, cards) for cards in self._targets())
        except LmxdError:
            return True  # there is nothing to read

    def read(self, launch: Launch) -> None:
        """Read the header, and have the engine itself asked where the closed form is unsure. May take a while."""
        patient = replace(self.estimator, patient=True)
        for cards in self._targets():
            patient.estimate(self.path, launch, cards)

    def _targets(self) -> list[tuple[Card, ...]]:
        """What a launch is estimated for: each kind of GPU here, or RAM."""
        return [(card,) for card in dict.fromkeys(self.cards.values())] or [()]
