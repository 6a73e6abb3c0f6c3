"""Observations of real instances, and what they say of the next. This is pure: the file is elsewhere.

An observation belongs to a card, its driver, and the engine's build and backend; with others nothing of it
counts. A process's context is the same for all models on a card. If a model once took 200 MiB more
than was predicted, its launches are charged 200 MiB more: no correction goes below what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median_high
from typing import Final

from lmxd.cuda import Capability
from lmxd.estimate.backends import Backend

_SPREAD: Final = 8 * 2**20
"""Of the context of one card between launches (595 to 603 MiB over 50 on an H100)."""
_FACTOR: Final = 2
_SLACK: Final = 4 * 2**30
"""Figures of one launch differ by less than a factor of two, or than 4 GiB: the largest context known takes 0.6, the
largest error of the closed form 3. Beyond, it is not the launch that they are about."""


RAM: Final = "RAM"
"""The name of the card that is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A GPU as its driver names it, and the engine's build and backend on it: what an observation holds for.

    ``multiprocessors`` (0 if unknown) tells slices of one name apart. ``compute`` is the compute capability of CUDA.
    """

    name: str = ""
    driver: str = ""
    build: str = ""
    backend: Backend = Backend.CUDA
    multiprocessors: int = 0
    compute: Capability | None = None

    def is_like(self, other: Card) -> bool:
        """Returns whether what one was seen to take holds for the other.

        Files of earlier versions do not say the multiprocessors: then the name is enough.
        """
        if (self.name, self.driver, self.build, self.backend) != (other.name, other.driver, other.build, other.backend):
            return False
        sizes = {self.multiprocessors, other.multiprocessors} - {0}
        return len(sizes) <= 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """The bytes that one launch took on one card. ``launch`` tells launches apart, ``file`` model files.

    ``predicted`` is what the closed form had without the process's context; ``loaded`` what the
    process took when ready, ``prompted`` the most since; ``count`` how many instances agree.
    """

    card: Card
    launch: str
    file: str
    model: str
    buffers: int
    predicted: int
    loaded: int
    prompted: int
    count: int = 1

    @property
    def plausible(self) -> bool:
        """Returns whether such a launch can be: no figure is negative, and they are near to each other.

        RAM is counted as it is touched, so that a process may take less of it than its buffers.
        """
        figures = (self.buffers, self.predicted, self.loaded, self.prompted)
        if min(*figures, self.count) < 0 or max(figures) > _bound(self.predicted):
            return False
        least = self.buffers if self.card.name == RAM else min(self.buffers, self.loaded)
        return self.predicted <= _bound(least)

    def merged(self, later: Observation) -> Observation:
        """Two looks at the same launch: the larger figures of both."""
        return Observation(
            card=later.card,
            launch=later.launch,
            file=later.file,
            model=later.model,
            buffers=max(self.buffers, later.buffers),
            predicted=later.predicted,
            loaded=max(self.loaded, later.loaded),
            prompted=max(self.prompted, later.prompted),
            count=self.count + later.count,
        )


@dataclass(frozen=True, slots=True)
class Learned:
    """All observations that count for estimates."""

    observations: tuple[Observation, ...] = field(default=())

    def __post_init__(self) -> None:
        assert all(o.plausible for o in self.observations), "an observation of no launch that can be"

    def context(self, card: Card) -> tuple[int, int] | None:
        """(bytes, plus or minus) of a process's context on ``card``; None if nothing was seen of it.

        The median: an instance that was prompted before it was looked at seems to have a larger one. A process that
        took less than its buffers tells nothing of its context.
        """
        seen = [o.loaded - o.buffers for o in self._of(card) if o.buffers and o.loaded >= o.buffers]
        return (median_high(seen), _SPREAD) if seen else None

    def launches(self, card: Card) -> int:
        """The number of launches on ``card`` that were seen."""
        return sum(o.count for o in self._of(card))

    def shortfall(self, card: Card, file: str) -> int:
        """The bytes by which a model's estimate on ``card`` was once exceeded, with the context as it is known now."""
        context = self.context(card)
        if context is None:
            return 0
        mine = (o for o in self._of(card) if o.file == file)
        return max([0, *(max(o.prompted, o.loaded) - o.predicted - context[0] for o in mine)])

    def same(self, card: Card, launch: str) -> Observation | None:
        """The observation of an exact repeat of ``launch``."""
        return next((o for o in self._of(card) if o.launch == launch), None)

    def _of(self, card: Card) -> Iterable[Observation]:
        return (o for o in self.observations if o.card.is_like(card))


def _bound(size: int) -> int:
    return _FACTOR * size + _SLACK


NOTHING_LEARNED: Final = Learned()


def kept(observations: Iterable[Observation], new: Observation, most: int) -> tuple[Observation, ...]:
    """The observations with one more; the oldest go when there are too many."""
    old = list(observations)
    same = next((o for o in old if o.launch == new.launch and o.card.is_like(new.card)), None)
    if same is not None:
        old.remove(same)
        new = same.merged(new)
    return (*old, new)[-most:]
