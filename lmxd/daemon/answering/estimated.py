"""Estimates as messages, for estimate and estimates: of a model, and all that was learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lmxd.catalog.catalog import Catalog
from lmxd.catalog.layout import Layout
from lmxd.catalog.resolved import Resolved
from lmxd.config.section import GIB
from lmxd.core.words import DeviceId
from lmxd.daemon.learning.learning import Learning
from lmxd.devices.measurement import DeviceKind
from lmxd.estimate import contexts
from lmxd.estimate.learned import RAM, Card, Learned
from lmxd.rpc.estimates import Context, Estimated, Estimates, FileUse, LearnedPeak, LearnedRest, Observed


def explain(resolved: Resolved, layout: Layout, called: Mapping[DeviceId, str]) -> Estimated:
    """The bytes that a model would take, by part, and those declared for it."""
    launch, sizing, declared = resolved.launch, resolved.sizing, resolved.profile.estimated_memory_gb
    gpus = resolved.usable.among(layout.of_kind(DeviceKind.GPU)) if layout.goes_to_gpu(launch) else []
    found = [sizing.estimate(launch, (gpu,)) for gpu in gpus]
    first = found[0] if found else sizing.estimate(launch, ())
    return Estimated(
        model=resolved.name,
        ctx=launch.context,
        slots=launch.slots,
        unified=launch.unified,
        basis=first.basis,
        error=max(e.error for e in (first, *found)),
        devices=[{"device": gpu, **e.parts.device.as_dict()} for gpu, e in zip(gpus, found, strict=True)],
        called={gpu: called[gpu] for gpu in gpus if gpu in called},
        contexts=[{"device": gpu, **x.as_dict()} for gpu, e in zip(gpus, found, strict=True) for x in e.contexts],
        host=first.parts.host.as_dict(),
        declared=None if declared is None else int(declared * GIB),
        files=[FileUse(use=use, path=str(path), size=path.stat().st_size) for use, path in sizing.companions().uses()],
        inputs=sizing.inputs(launch),
        notes=list(first.notes),
    )


def estimates(learning: Learning, catalog: Catalog, cards: Iterable[Card]) -> Estimates:
    """The contexts of present and earlier cards, every observation, and what other engines took."""
    learned = learning.observations.learned
    shown = sorted(set(cards), key=str)
    for o in learned.observations:
        if o.card.name != RAM and not any(o.card.is_like(card) for card in shown):
            shown.append(o.card)
    return Estimates(
        contexts=[_context(learned, card) for card in shown],
        observed=[
            Observed(
                model=o.model,
                card=o.card.name,
                driver=o.card.driver,
                build=o.card.build,
                buffers=o.buffers,
                predicted=o.predicted,
                loaded=o.loaded,
                prompted=o.prompted,
                count=o.count,
            )
            for o in learned.observations
        ],
        rests=[LearnedRest(model=whose.model, card=whose.card, bytes=size) for whose, size in learning.rests.listed()],
        peaks=[
            LearnedPeak(model=name, bytes=size)
            for variant, size in learning.peaks.sizes.items()
            for name in tuple(catalog.like(variant)) or (None,)
        ],
    )


def _context(learned: Learned, card: Card) -> Context:
    found = contexts.context(card, learned)
    return Context(
        card=card.name,
        driver=card.driver,
        build=card.build,
        bytes=found.size,
        error=found.error,
        count=learned.launches(card),
        backend=card.backend,
        source=found.source,
    )
