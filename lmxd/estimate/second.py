"""A second opinion beside the closed form: the larger figure counts, and a disagreement is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from lmxd.estimate.footprints import DRY_RUN, Estimate
from lmxd.estimate.overhead import MIB
from lmxd.gguf.footprint import Footprint, Parts

_AGREE: Final = 4 * MIB
"""Below this nobody needs to hear of it: the second source prints whole MiB."""


class Opinion(Protocol):
    """The bytes in one place, as the second source has them; ``context`` is KV cache and state together."""

    @property
    def weights(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def compute(self) -> int: ...


class Opinions(Protocol):
    """The second source's figures for one launch: of each device, and of RAM."""

    @property
    def devices(self) -> Sequence[Opinion]: ...
    @property
    def host(self) -> Opinion: ...


class Second(Protocol):
    """A source of second opinions: llama-server's dry run, in lmxd/engines."""

    def ask(self, model: Path, words: Sequence[str], cards: int) -> Opinions:
        """May take a second. LmxdError if it cannot be had."""
        ...

    def known(self, model: Path, words: Sequence[str], cards: int) -> Opinions | None:
        """An earlier answer of ``ask``, at once; None if there is none."""
        ...


def weighed(found: Estimate, other: Opinions) -> Estimate:
    """``found`` with each part no smaller than in the other source, and what they disagree about as notes."""
    notes = list(found.notes)
    places = []
    names = [*(f"device {n}" for n in range(len(found.parts.devices))), "host"]
    mines, others = (*found.parts.devices, found.parts.host), (*other.devices, other.host)
    for name, mine, theirs in zip(names, mines, others, strict=True):
        places.append(_larger(mine, theirs))
        for part, a, b in (
            ("weights", mine.weights, theirs.weights),
            ("cache and state", mine.kv + mine.state, theirs.context),
            ("compute", mine.compute, theirs.compute),
        ):
            if abs(a - b) > _AGREE:
                notes.append(f"{name}: {part} {a / MIB:.1f} MiB by the closed form, {b / MIB:.1f} by the dry run")
    parts = replace(found.parts, devices=tuple(places[:-1]), host=places[-1], left=0)
    error = found.error - min(found.uncertain, found.parts.left)  # how matrices are copied is no longer guessed
    return replace(found, basis=f"{found.basis}+{DRY_RUN}", parts=parts, error=error, notes=tuple(notes))


def alone(other: Opinions, overheads: Sequence[int], host_overhead: int, error: int, note: str) -> Estimate:
    """An estimate from the second source only, for a model that the closed form does not cover."""
    devices = tuple(
        Parts(weights=o.weights, kv=o.context, compute=o.compute, overhead=overhead)
        for o, overhead in zip(other.devices, overheads, strict=True)
    )
    host = Parts(weights=other.host.weights, kv=other.host.context, compute=other.host.compute, overhead=host_overhead)
    return Estimate(basis=DRY_RUN, parts=Footprint(devices=devices, host=host), error=error, notes=(note,))


def _larger(mine: Parts, other: Opinion) -> Parts:
    extra = max(0, other.context - mine.kv - mine.state - _AGREE)
    return replace(
        mine,
        weights=mine.weights if other.weights - mine.weights <= _AGREE else other.weights,
        kv=mine.kv + (extra + _AGREE if extra else 0),
        compute=max(mine.compute, other.compute),
    )
