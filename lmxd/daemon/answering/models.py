"""The configured models, and the bytes that each would take."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size
from lmxd.config.called import variant_names
from lmxd.config.profile import Profile
from lmxd.core.books.state import State
from lmxd.core.policy.fit import fit
from lmxd.core.policy.quantum import load_seconds
from lmxd.core.words import Ask
from lmxd.daemon.answering import estimated
from lmxd.daemon.answering.asks import Asks
from lmxd.daemon.answering.descriptions import Descriptions, abilities, info
from lmxd.daemon.answering.steps import charges, growth
from lmxd.daemon.answering.together import SharedAnswer
from lmxd.daemon.learning.learning import Learning
from lmxd.daemon.present import Present
from lmxd.daemon.served_directories import ServedDirectories
from lmxd.engines.engine import shown_engine
from lmxd.errors import LmxdError
from lmxd.estimate.footprints import DEFAULT_CONTEXT
from lmxd.rpc.books import ElasticInfo, FitInfo, ModelInfo, Models, VariantInfo
from lmxd.rpc.estimates import Estimated, EstimateParams, Estimates
from lmxd.rpc.framing import Encoded, encoded
from lmxd.rpc.model_files import Shown
from lmxd.rpc.server import Connection

log = logging.getLogger(__name__)
_FRESH: Final = 1.0
"""Seconds for which a reading is good for a list: as long as the list itself."""


class ModelCalls:
    """Answers the calls ``models``, ``show``, ``estimate`` and ``estimates``."""

    def __init__(
        self, state: State, present: Present, asks: Asks, learning: Learning, served: ServedDirectories
    ) -> None:
        self._state = state
        self._present = present
        self._asks = asks
        self._learning = learning
        self._served = served
        self._descriptions = Descriptions()
        self._models = SharedAnswer(self._all)

    async def models(self) -> Encoded:
        await self._served.look()
        running = tuple(i.ask.profile for i in self._state.instances.values())
        failed = tuple((launch, failure.until) for launch, failure in self._state.failed.items())
        layout = self._present.layout
        devices = (*layout.kinds.items(), *layout.pools.items())
        return await self._models.get((self._present.catalog, devices, running, failed))

    async def _all(self) -> Encoded:
        """On one reading, however many models there are and however long their files take."""
        await self._asks.measured(_FRESH)
        found = []
        for name in sorted(self._present.catalog.config.models):
            found.append(await self._model(name))
            await asyncio.sleep(0)  # each takes milliseconds: others go on in between
        return encoded(Models(models=found, called=self._state.ledger.called).model_dump(mode="json"))

    async def _model(self, name: str) -> ModelInfo:
        """One profile. A fault of it is said of it, so that it takes nothing away from the others."""
        running = sum(1 for i in self._state.instances.values() if i.ask.profile == name)
        profile = self._present.catalog.profile(name)
        view = ModelInfo(
            model=name,
            aliases=list(profile.aliases),
            set=profile.set,
            strip=list(profile.strip),
            variants=[_variant(name, profile, tag) for tag in profile.variants],
            ctx=profile.context_length or DEFAULT_CONTEXT,
            slots=profile.slots,
            bytes={},
            running=running,
            engine=shown_engine(profile.engine_name),
            upstream_name=self._present.catalog.heeded(name),
            settings=profile.without_texts(),
        )
        try:
            resolved = await self._asks.read(name, Size(bounded=True))
            elastic = self._elastic(resolved)
            most = resolved.launch.context if elastic is None else elastic.steps[-1]
            view = view.model_copy(update={"ctx": most, "elastic": elastic})
            ask = self._asks.ask(resolved)
            path, basis = resolved.sizing.file(), self._present.catalog.basis(name)
            shown = None if path is None else str(path)
            view = view.model_copy(update={"basis": basis, "path": shown, **self._new_instance(ask)})
            file, media = await self._descriptions.file(resolved, None), await self._descriptions.media(resolved, None)
            able = abilities(resolved, file, media)
            view = view.model_copy(update={"file": info(file), "capabilities": able, "media": media})
        except LmxdError as error:
            return view.model_copy(update={"problem": str(error)})
        except (OSError, ValueError, RuntimeError) as error:  # such as a disk that fails while a header is read
            log.exception("%s cannot be looked at", name)
            return view.model_copy(update={"problem": f"it cannot be looked at: {error}"})
        failed = self._state.failed.get(ask.launch)
        if failed is None:
            return view
        left = max(0.0, failed.until - time.monotonic())
        problem = f"it failed to load: {failed.failure.message}" if left else None
        return view.model_copy(update={"failures": failed.count, "retry_in": left, "problem": problem})

    def _new_instance(self, ask: Ask) -> dict[str, object]:
        """The fields about an instance that would be started now."""
        found = fit(self._state, ask)
        return {
            "bytes": charges(ask),
            "needs": dict(ask.options[0].devices),
            "load": load_seconds(self._state, ask),
            "fit": FitInfo(when=found.when.value, ends=list(found.ends)),
        }

    def _elastic(self, resolved: Resolved) -> ElasticInfo | None:
        catalog, name = self._present.catalog, resolved.name
        if (start := catalog.start(name, None)) is None:
            return None
        seen = catalog.starts.of(name, None)
        return ElasticInfo(
            steps=list(catalog.steps(name)),
            unified=resolved.launch.unified,
            start=start,
            learned_from=0 if seen is None else seen.count,
            growths_per_hour=self._learning.growths.per_hour()[name],
            not_carried=resolved.not_carried,
        )

    async def show(self, connection: Connection, model: str) -> Shown:
        resolved = self._present.catalog.resolve(model)
        return await self._descriptions.shown(resolved, (connection.peer.uid, ""))

    async def estimate(self, connection: Connection, params: EstimateParams) -> Estimated:
        size = Size(
            ctx=params.ctx,
            slots=params.slots,
            cache_type_k=params.cache_type_k,
            cache_type_v=params.cache_type_v,
        )
        user = connection.peer.uid, ""
        resolved = await self._asks.warm(params.model, size, user)
        found = estimated.explain(resolved, self._present.layout, self._state.ledger.called)
        return found.model_copy(update={"growth": await growth(self._asks, resolved, self._present.catalog, user)})

    def estimates(self) -> Estimates:
        engines = self._present.catalog.in_use()
        cards = [engine.cards[gpu] for engine in engines for gpu in engine.usable.among(engine.cards)]
        return estimated.estimates(self._learning, self._present.catalog, cards)


def _variant(model: str, profile: Profile, tag: str) -> VariantInfo:
    variant, (name, *aliases) = profile.variants[tag], variant_names(model, profile, tag)
    return VariantInfo(name=name, aliases=aliases, set=variant.set, strip=list(variant.strip))
