"""Model files estimated right here: the GPUs, the engine and the flags that somebody asks about."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from lmxd.cli.places import Place, capacity_of_ram, places_of
from lmxd.engines.llama_cpp.binary import Binary, find, probe
from lmxd.engines.llama_cpp.dry_run import DryRunner
from lmxd.engines.llama_cpp.repack import repacked_types
from lmxd.errors import LmxdError
from lmxd.estimate.arguments import Arguments, parse
from lmxd.estimate.backends import Backend
from lmxd.estimate.companions import Companions
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import read_model
from lmxd.estimate.fits import fewest_cards, largest_context, most_slots
from lmxd.estimate.footprints import DEFAULT_CONTEXT, inputs
from lmxd.gguf.builds import LATEST
from lmxd.gguf.launch import Launch
from lmxd.rpc.estimates import Estimated, FileUse


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The question about a model file. ``cards`` are names of GPUs; ``flags`` llama-server's words."""

    ctx: int | None = None
    slots: int | None = None
    k: str | None = None
    v: str | None = None
    cards: tuple[str, ...] = ()
    flags: str | None = None
    engine: Path | None = None
    dry_run: str = "auto"
    beside: tuple[str, ...] = ()
    """Further words of llama-server's: the files beside the model, and the kind of its answers."""


class _Machine:
    """The GPUs and the engine that somebody asks about: looked for once, when they are needed."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    @cached_property
    def places(self) -> list[Place]:
        return places_of(self._wanted.cards, partial(_backends, self._wanted))

    @cached_property
    def estimator(self) -> Estimator:
        return _estimator(self._wanted)


def estimates_of(asked: Iterable[tuple[Path, tuple[str, ...]]], wanted: Wanted) -> Iterator[Estimated | LmxdError]:
    """The estimate of each model with what is beside it, as ``Wanted.beside``, or the error why it cannot be used."""
    machine = _Machine(wanted)
    for path, beside in asked:
        try:
            yield _of(path, replace(wanted, beside=beside), machine)
        except LmxdError as error:
            yield LmxdError(error.code, error.message, error.remedy, {**error.data, "file": path.name})


def of_file(path: Path, wanted: Wanted) -> Estimated:
    """The estimate of one file, with what would fit.

    LmxdError: ``model_file_missing``, ``bad_model_file``, ``invalid_params``.
    """
    return _of(path, wanted, _Machine(wanted), fits=True)


def _of(path: Path, wanted: Wanted, machine: _Machine, *, fits: bool = False) -> Estimated:
    """The estimate of one launch."""
    arguments = parse(_words(wanted), repacked_types())
    places = [] if arguments.in_ram else machine.places
    places = places[:1] if arguments.one_card else places
    arguments, covered = _resolved(path, wanted, arguments)
    launch = _as_served(arguments.launch) if wanted.beside else arguments.launch
    estimator = machine.estimator
    cards = tuple(place.card for place in places)
    found = estimator.estimate(path, launch, cards, arguments.companions)
    ignored = [f"flags that do not count here: {', '.join(arguments.ignored)}"] if arguments.ignored else []
    return Estimated(
        model=str(path),
        ctx=launch.context,
        slots=launch.slots,
        unified=launch.unified,
        basis=found.basis,
        error=found.error,
        devices=[{"device": c.name, **p.as_dict()} for c, p in zip(cards, found.parts.devices, strict=True)],
        contexts=[{"device": c.name, **x.as_dict()} for c, x in zip(cards, found.contexts, strict=False)],
        host=found.parts.host.as_dict(),
        files=[FileUse(use=use, path=str(x), size=x.stat().st_size) for use, x in arguments.companions.uses()],
        inputs=inputs(read_model(path), launch) if covered else {},
        notes=[*found.notes, *ignored],
        fits=_fits(path, launch, places, estimator, arguments.companions) if fits and covered else {},
    )


def _as_served(launch: Launch) -> Launch:
    """A launch as lmxd makes it: a server of embeddings takes a text at once, as long as its context."""
    if not launch.outputs_all:
        return launch
    ubatch = max(launch.ubatch, launch.context)
    return replace(launch, ubatch=ubatch, batch=max(launch.batch, ubatch))


def _words(wanted: Wanted) -> str:
    """Options turned into llama-server's words; a context is then of each slot."""
    beside = shlex.join(wanted.beside)
    if wanted.flags is not None:
        return f"{wanted.flags} {beside}"
    slots = wanted.slots or 1
    words = [f"-np {slots}"]
    words += [f"-c {wanted.ctx * slots}"] if wanted.ctx else []
    words += [f"-ctk {wanted.k}"] if wanted.k else []
    words += [f"-ctv {wanted.v}"] if wanted.v else []
    return " ".join([*words, beside])


def _resolved(path: Path, wanted: Wanted, arguments: Arguments) -> tuple[Arguments, bool]:
    """(arguments with a context, whether the closed form covers the model)."""
    try:
        trained, covered = read_model(path).context, True
    except LmxdError as error:
        if error.data.get("uncovered") is None:
            raise
        trained, covered = int(error.data["context"]), False
    asked = wanted.flags is not None or wanted.ctx is not None
    usual = trained if asked else min(DEFAULT_CONTEXT, trained) * arguments.launch.slots
    return arguments.resolved(usual or DEFAULT_CONTEXT), covered


def _backends(wanted: Wanted) -> frozenset[Backend] | None:
    """The backends of the llama-server here. On another machine's cards runs another one."""
    binary = _binary(wanted) if wanted.engine is not None or not wanted.cards else None
    return binary.backends if binary is not None else None


def _estimator(wanted: Wanted) -> Estimator:
    binary = _binary(wanted)
    here = wanted.engine is not None or not wanted.cards  # on another machine's cards runs another llama-server
    build = binary.family if binary is not None and here else LATEST
    if wanted.dry_run == "never" or binary is None:
        return Estimator(build=build)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmxd/dry-runs"
    return Estimator(build=build, second=DryRunner(binary, cache), always=wanted.dry_run == "always")


def _binary(wanted: Wanted) -> Binary | None:
    """The llama-server to ask. It need not be there unless it was named, or must be asked."""
    try:
        return probe(find(wanted.engine))
    except LmxdError:
        if wanted.engine is not None or wanted.dry_run == "always":
            raise
        return None


def _fits(
    path: Path, launch: Launch, places: Sequence[Place], estimator: Estimator, companions: Companions
) -> dict[str, int | None]:
    """The largest context, the most slots and the fewest cards, on empty devices whose size is known."""
    estimator = replace(estimator, second=None)  # it would be asked for each size that is tried
    capacities = [place.capacity for place in places]
    if not places:
        capacities = [capacity_of_ram()]
    if not all(capacities):
        return {}

    def fits(cards: Sequence[Place]) -> Callable[[Launch], bool]:
        def on_them(asked: Launch) -> bool:
            found = estimator.estimate(path, asked, tuple(place.card for place in cards), companions).parts
            totals = [device.total for device in found.devices] or [found.host.total]
            return all(
                total <= room for total, room in zip(totals, [c.capacity for c in cards] or capacities, strict=True)
            )

        return on_them

    trained = read_model(path).context
    result = {
        "largest_context": largest_context(launch, fits(places), max(trained, 256)),
        "most_slots": most_slots(launch, fits(places)),
    }
    if places:
        result["fewest_gpus"] = fewest_cards(lambda n: fits([places[0]] * n)(replace(launch, split=())))
    return result
