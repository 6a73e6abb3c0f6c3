"""All sources together: what was observed of the very same launch, else the closed form, else a second opinion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lmxd.errors import LmxdError
from lmxd.estimate import contexts, overhead
from lmxd.estimate.arguments import words
from lmxd.estimate.companions import ALONE, Companions
from lmxd.estimate.extras import Extras, beside_unknown
from lmxd.estimate.files import identity, is_read, read_model
from lmxd.estimate.footprints import OBSERVED, Estimate, estimate, of_other_backends
from lmxd.estimate.learned import NOTHING_LEARNED, Card, Learned
from lmxd.estimate.overhead import MIB
from lmxd.estimate.second import Opinions, Second, alone, weighed
from lmxd.gguf.builds import LATEST, Build
from lmxd.gguf.launch import Launch

_OBSERVED_ERROR: Final = 16 * MIB
"""Bytes by which an exact repeat may differ from the first."""
_UNCOVERED_FETCH: Final = 110 * MIB
"""The most that the first prompt adds where it is not known what the model computes (H100, 133 launches)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """Estimates the bytes of launches by the closed form, by observation and by a second source.

    ``second`` is asked where the closed form is unsure. With ``patient`` its answer is waited for; else only an earlier
    answer counts. ``always``: it is asked whether the closed form is sure or not.
    """

    build: Build = LATEST
    learned: Learned = NOTHING_LEARNED
    second: Second | None = None
    patient: bool = True
    always: bool = False

    def estimate(
        self, path: Path, launch: Launch, cards: Sequence[Card] = (), companions: Companions = ALONE
    ) -> Estimate:
        """The bytes that a llama-server takes for a model and its companions on ``cards``; without any: in RAM.

        Raises LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` if it would not start.
        """
        launch = launch.beside(len(cards))
        try:
            model = read_model(path)
        except LmxdError as error:
            if error.data.get("uncovered") is None:
                raise
            return self._uncovered(path, launch, cards, companions.extras(launch), error)
        extras, key = companions.extras(launch), file_key(path, companions)
        found = estimate(model, launch, cards, extras=extras, build=self.build, learned=self.learned, file=key)
        if (seen := self._observed(found, fingerprint(path, launch, companions), launch, cards)) is not None:
            return seen
        if self.always or not (found.sure and self.build.known):
            other = self._opinions(path, launch, len(cards))
            if isinstance(other, str):
                return replace(found, notes=(*found.notes, other))
            found = found if other is None else weighed(found, other)
        return found

    def settled(self, path: Path, launch: Launch, cards: Sequence[Card], companions: Companions = ALONE) -> bool:
        """Whether an answer takes no time, and patience would change nothing of it.

        The header has been read, and the closed form is sure or the second source has answered. LmxdError
        ``model_file_missing``.
        """
        if not (is_read(path) and companions.are_read()):
            return False
        if self.second is None:
            return True
        launch = launch.beside(len(cards))
        try:
            found = estimate(read_model(path), launch, cards, build=self.build)
            if found.sure and self.build.known:
                return True
        except LmxdError as error:
            if error.data.get("uncovered") is None:
                return True
        try:
            return self.second.known(path, words(launch), len(cards)) is not None
        except LmxdError:
            return True

    def context(self, card: Card) -> int:
        """Bytes of a process's context on ``card``, as far as it is known."""
        return contexts.context(card, self.learned).size

    def _opinions(self, path: Path, launch: Launch, cards: int) -> Opinions | str | None:
        """The second source's answer; a sentence if it failed; None if there is none, or not yet."""
        if self.second is None:
            return None
        try:
            ask = self.second.ask if self.patient else self.second.known
            return ask(path, words(launch), cards)
        except LmxdError as error:
            return f"no dry run: {error.message}"

    def _uncovered(
        self, path: Path, launch: Launch, cards: Sequence[Card], extras: Extras, error: LmxdError
    ) -> Estimate:
        other = self._opinions(path, launch, len(cards))
        if other is None:
            raise error
        if isinstance(other, str):
            raise LmxdError(error.code, f"{error.message}; {other}", error.remedy, error.data)
        known = tuple(contexts.context(card, self.learned) for card in cards)
        found = alone(
            other,
            [context.size + _UNCOVERED_FETCH for context in known],
            overhead.HOST + overhead.HOST_PER_TOKEN * int(error.data.get("vocabulary", 0)),
            _UNCOVERED_FETCH + max((context.error for context in known), default=0),
            f"the closed form does not cover {error.data['uncovered']} models",
        )
        others = of_other_backends(cards)
        doubt = extras.error + (_UNCOVERED_FETCH if others else 0)
        parts = beside_unknown(found.parts, extras, self.build)
        return replace(found, parts=parts, error=found.error + doubt, contexts=known, notes=(*found.notes, *others))

    def _observed(self, found: Estimate, same: str, launch: Launch, cards: Sequence[Card]) -> Estimate | None:
        """An exact repeat takes what it took; where more prompts may fetch more, no less than the closed form."""
        if len(cards) != 1:
            return None
        seen = self.learned.same(cards[0], same)
        if seen is None or not seen.prompted:
            return None
        device = found.parts.devices[0]
        total = seen.prompted if launch.flash != "off" else max(seen.prompted, device.total)
        device = replace(device, overhead=max(0, total - device.total + device.overhead))
        parts = replace(found.parts, devices=(device,))
        return replace(found, basis=OBSERVED, parts=parts, error=_OBSERVED_ERROR, contexts=())


def file_key(path: Path, companions: Companions = ALONE) -> str:
    """Tells a model file with its companions from others, and from itself before a change."""
    beside = companions.identity()
    return _digest((identity(path), *beside) if beside else identity(path))


def fingerprint(path: Path, launch: Launch, companions: Companions = ALONE) -> str:
    """Tells one launch from another: the files as they are now, and everything that they are started with."""
    told = [identity(path), words(launch), launch.drafted, launch.mtp, launch.mmap]
    told += [launch.mtp_cache_type_k, launch.mtp_cache_type_v] if launch.mtp else []
    beside = companions.identity()
    draft = None if companions.draft is None else words(companions.draft.launch(launch))
    return _digest([*told, beside, draft, companions.projector_on_device] if beside else told)


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
