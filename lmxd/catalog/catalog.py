"""The models of one configuration, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from lmxd.catalog.beside import beside
from lmxd.catalog.declared import DeclaredSizing
from lmxd.catalog.directory import DirectorySizing
from lmxd.catalog.formula import Formula
from lmxd.catalog.gpu_support import GpuSupport, warnings
from lmxd.catalog.installed import InstalledEngine
from lmxd.catalog.layout import Layout
from lmxd.catalog.llama_cpp import LlamaSizing
from lmxd.catalog.model_files import ModelFiles
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size, launch_at
from lmxd.catalog.sizing import Sizing
from lmxd.catalog.vllm import VllmSizing
from lmxd.config.elastic_keys import Steps, with_more
from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.core.words import Ask, DeviceId, User
from lmxd.devices.measurement import HOST, Measurement
from lmxd.engines.engine import PROGRAMS, UPSTREAM_NAMES, EngineKind
from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.estimate.footprints import CLOSED_FORM, DECLARED
from lmxd.estimate.learned import Card
from lmxd.estimate.rests import NO_RESTS, KnownRests
from lmxd.estimate.starts import NO_STARTS, KnownStarts, beginning


class Catalog:
    """The profiles of one configuration. A reload makes a new catalog; running instances keep their old profiles.

    ``owner``: the uid of the one user whom it is for, whose files may be anywhere; None where it is for several.
    """

    def __init__(self, config: Config, owner: int | None = None) -> None:
        self.config = config
        self._owner = owner
        self._files = ModelFiles(config, owner)
        self._settings = config.engines_of_models()
        self._variants = {name: profile.variant(self._settings[name]) for name, profile in config.models.items()}
        self._idle_timeouts = {name: config.idle_timeout_of(profile) for name, profile in config.models.items()}
        self.engines = {name: InstalledEngine(settings) for name, settings in config.all_engines().items()}
        self.peaks: dict[str, int] = {}
        """The most bytes that each variant of a declared engine was seen to take."""
        self.rests: KnownRests = NO_RESTS
        """The bytes that vLLM was seen to take beside weights and cache."""
        self.starts: KnownStarts = NO_STARTS
        """The tokens that conversations of elastic models were seen to have."""

    def see(self, measured: Sequence[Measurement], found: Mapping[str, GpuSupport] = MappingProxyType({})) -> None:
        """Let estimates be those of the GPUs that were measured. ``found``: those that engines were found to use."""
        for name, engine in self.engines.items():
            engine.see(found.get(name, engine.usable).seeing(measured), measured)

    def renewed(self, config: Config) -> Catalog:
        """The same catalog with other models, which knows of engines and devices what this one knows."""
        made = Catalog(config, self._owner)
        made.engines, made.peaks, made.rests, made.starts = self.engines, self.peaks, self.rests, self.starts
        return made

    @property
    def default(self) -> InstalledEngine:
        """The engine that runs what names none."""
        return self.engines[EngineKind.LLAMA_CPP]

    def installed(self, name: str) -> InstalledEngine:
        """The engine of a name; of one that is none of ours, the default, which knows the same devices."""
        return self.engines.get(name, self.default)

    def in_use(self) -> list[InstalledEngine]:
        """The engines that the configuration names or a profile runs on; llama.cpp alone if there are none."""
        wanted = {*self.config.engines, *(settings.name for settings in self._settings.values())}
        return [engine for name, engine in self.engines.items() if name in wanted] or [self.default]

    def missing(self, name: str, error: LmxdError) -> str:
        """The sentence that an engine was not found; of the one that nobody named, with those that are named."""
        if name in self.config.engines or not self.config.engines or self.engines[name].settings.path is not None:
            return str(error)
        return f"{error}; models that name no engine want it: name one of {', '.join(self.config.engines)} in them"

    def warnings_of_engines(self) -> list[str]:
        """A sentence for each GPU that no engine in use can run models on, or that one of them does not find."""
        return list(dict.fromkeys(warnings([engine.usable for engine in self.in_use()])))

    def profile(self, name: str) -> Profile:
        """The profile of a name. LmxdError ``unknown_model`` if it is not configured."""
        if name not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise LmxdError("unknown_model", f"there is no model {name!r}", f"configured: {known}")
        return self.config.models[name]

    def has(self, name: str, variant: str) -> bool:
        """Whether what was started as a variant of a profile would be started as the same now."""
        return self._variants.get(name) == variant

    def like(self, variant: str) -> list[str]:
        """The profiles that would be started as a variant."""
        return [name for name, its in self._variants.items() if its == variant]

    def heeded(self, name: str) -> str | None:
        """The name of a model that its engine heeds in a request; None for llama-server, which heeds none."""
        kind = self._settings[name].kind
        if kind is EngineKind.LLAMA_CPP:
            return None
        return self.config.models[name].upstream_name or UPSTREAM_NAMES.get(kind) or name

    def resolve(self, name: str, size: Size = Size()) -> Resolved:
        """A model at a size. LmxdError ``unknown_model``. A fault of its file is raised when the file is needed."""
        profile, settings = self.profile(name), self._settings[name]
        formula = self._formula(name, profile)
        sizing = self._sizing(name, profile, formula)
        usable = self.installed(settings.name).usable
        return Resolved(
            name=name,
            profile=profile,
            variant=self._variants[name],
            idle_timeout=self._idle_timeouts[name],
            size=size,
            launch=launch_at(size, profile, sizing.context),
            sizing=sizing,
            engine=settings,
            usable=usable if settings.kind in PROGRAMS else GpuSupport(gpus=usable.gpus),
        )

    def steps(self, name: str) -> tuple[int, ...]:
        """The contexts that a lease of a model can have, ascending; none if it has one only. LmxdError
        ``unknown_model``."""
        found = self._steps(name)
        return () if found is None else found.contexts

    def sizes(self, name: str) -> tuple[int, ...]:
        """The slots of its instances that share one cache, ascending; none if they do not. LmxdError likewise."""
        return () if (found := self._steps(name)) is None else found.sizes

    def _steps(self, name: str) -> Steps | None:
        profile = self.profile(name)
        if not profile.is_elastic:
            return None
        said = profile.context_length  # where that is enough, no file is looked at: each grant has them
        return profile.steps(said or self._sizing(name, profile, self._formula(name, profile)).context(said))

    def grown(self, name: str, size: Size, need: int) -> Size:
        """A size with the least step of ``need`` tokens.

        LmxdError ``unknown_model``, and ``invalid_params`` if no step has so many, or the model has none.
        """
        steps = self._steps(name)
        if steps is None:
            what = f"the context of {name} is fixed: its leases do not grow"
            raise LmxdError("invalid_params", what, f"set context: elastic in models.{name}, or make a new request")
        if need > steps.top:
            what = f"ctx is {need}, but {name} grows to {steps.top} tokens at most"
            raise LmxdError("invalid_params", what, f"ask for less, or raise context_length of models.{name}")
        return replace(size, ctx=steps.least(need))

    def start(self, name: str, user: User | None) -> int | None:
        """The context with which a lease of a user starts that says none; None if the model has one only.

        Without a user, that of those of whom too little is known. LmxdError ``unknown_model``.
        """
        if not (steps := self.steps(name)):
            return None
        known = self.starts.of(name, user)
        return beginning(steps, 0 if known is None else known.start)

    def smaller(self, name: str, now: Size, used: Sequence[int], user: User | None) -> Size | None:
        """The size with the least step for ``used``, the tokens by slot, and a quarter more; None if none is smaller.

        At least the one with which a lease of ``user`` starts, and as many slots as ``now``, which gives the most back.
        One cache for all slots has no more of them than all need together, or leases have. LmxdError ``unknown_model``.
        """
        start, steps = self.start(name, user), self._steps(name)
        if start is None or steps is None or now.ctx is None:
            return None
        if steps.unified:
            slots = max(steps.enough(used), steps.size(now.like))
            smaller = replace(now, ctx=slots * steps.start, slots=slots, exact=True)
        else:
            smaller = replace(now, ctx=steps.least(max(start, with_more(max(used, default=0)))), exact=True)
        return smaller if (smaller.ctx or 0) < now.ctx else None

    def private_to(self, name: str, size: Size, user: User) -> User | None:
        """The one user whom an instance for ``user`` serves from its start to its end; None if anybody.

        One that keeps prompts is for one user, or name that a uid asks for. One that is not shared is for one uid: who
        once had a lease on it has its key. One that runs without a request is everybody's. LmxdError ``unknown_model``.
        """
        profile = self.profile(name)
        if profile.keep or profile.preload:
            return None
        if self.config.suspends(profile):
            return user
        return None if size.share and profile.share == "compatible" else (user[0], "")

    def _formula(self, name: str, profile: Profile) -> Formula:
        engine = self.installed(self._settings[name].name)
        return Formula(
            name=name,
            file=self._files.find(name, profile.path),
            files=beside(profile, partial(self._files.find, name)),
            stretched=profile.stretches or flags.stretches_context(profile.engine_flags),
            estimator=engine.estimator,
            cards=engine.cards,
            unknown=Card(build=engine.build),
            longest=profile.context_length if profile.is_elastic and profile.kv_unified else None,
        )

    def _sizing(self, name: str, profile: Profile, formula: Formula) -> Sizing:
        """The sizing of the kind of engine that runs a profile."""
        match self._settings[name].kind:
            case EngineKind.VLLM:
                engine = self.installed(self._settings[name].name)
                return VllmSizing(
                    name=name,
                    profile=profile,
                    found=self._files.directory(name, profile.path),
                    version=engine.build,
                    cards=engine.cards,
                    unknown=formula.unknown,
                    rests=self.rests,
                )
            case EngineKind.SGLANG | EngineKind.TGI:
                return DirectorySizing(name=name, profile=profile, found=self._files.directory(name, profile.path))
            case EngineKind.COMMAND:
                said = int((profile.estimated_memory_gb or 0) * GIB)
                return DeclaredSizing(
                    command=profile.command or (),
                    size=max(said, self.peaks.get(self._variants[name], 0)),
                    has_file=profile.path is not None,
                    formula=formula,
                )
            case _:
                return LlamaSizing(name=name, profile=profile, formula=formula)

    def file(self, name: str) -> Path | None:
        """The model file of a profile; None for an engine without one. LmxdError if the file is missing."""
        profile = self.profile(name)
        return self._sizing(name, profile, self._formula(name, profile)).file()

    def basis(self, name: str) -> str:
        """The basis of a profile's bytes: declared, or closed form. A removed profile counts as the latter."""
        profile = self.config.models.get(name)
        return CLOSED_FORM if profile is None or profile.estimated_memory_gb is None else DECLARED

    def helpful_keys(self, ask: Ask, room: Mapping[DeviceId, int], layout: Layout) -> tuple[str, ...]:
        """The keys of its profile, with values, by which a request that exceeds every device may fit in ``room``."""
        if ask.profile not in self.config.models:
            return ()
        resolved, found = self.resolve(ask.profile, Size.of(ask)), []
        if resolved.is_divisible(layout):
            found.append("fit: auto")
        if resolved.fits_unpacked(room, layout):
            found.append("repack: false")
        if tokens := resolved.tokens_that_fit(room, layout):
            found.append(f"kv_tokens: {tokens}")
        return tuple(found)

    def what_would_fit(self, ask: Ask, room: Mapping[DeviceId, int], layout: Layout) -> int | None:
        """The largest context that would fit in ``room``, for a request that exceeds every device; None if none."""
        if ask.profile not in self.config.models:
            return None
        resolved = self.resolve(ask.profile, Size.of(ask))
        return resolved.what_would_fit(room, layout, ask.spills)

    def warnings(self, gpus: Sequence[DeviceId]) -> list[str]:
        """Warnings about profiles that may not work on ``gpus`` (none: in RAM)."""
        found = []
        for name in self.config.models:
            resolved = self.resolve(name)
            found += resolved.sizing.warnings(resolved.launch, resolved.usable.among(gpus))
            found += [doubt for doubt in self._doubts_of_steps(resolved, gpus) if doubt not in found]
            if resolved.profile.fit == "auto" and HOST not in (self.config.gpu.refs or (HOST,)):
                found.append(f"models.{name}.fit: what runs in RAM is not counted: add host to gpu.devices")
            if resolved.profile.suspend and not self.config.suspends(resolved.profile):
                why = "prompt_cache_gb is 0" if not self.config.engine.prompt_cache_gb else "keep or preload is set"
                found.append(f"models.{name}.suspend has no effect: {why}")
        return found

    def _doubts_of_steps(self, resolved: Resolved, gpus: Sequence[DeviceId]) -> Iterator[str]:
        """A sentence if leases of a model are to grow, and cannot."""
        name, steps = resolved.name, self.steps(resolved.name)
        if len(steps) == 1:
            how = "set a smaller start, or take elastic out"
            yield f"models.{name}.elastic: nothing grows, for the model was trained for {steps[0]} tokens: {how}"
        elif steps:
            top = self.resolve(name, Size(ctx=steps[-1]))
            try:
                top.sizing.estimate(top.launch, top.usable.among(gpus)[:1])
            except LmxdError as error:
                yield f"models.{name}: {error}"
