"""The models of one configuration, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmxd.catalog.declared import DeclaredSizing
from lmxd.catalog.formula import Formula
from lmxd.catalog.layout import Layout
from lmxd.catalog.llama_cpp import LlamaSizing
from lmxd.catalog.model_files import ModelFiles
from lmxd.catalog.resolved import Resolved
from lmxd.catalog.size import Size, launch_at
from lmxd.catalog.sizing import Sizing
from lmxd.catalog.usable import Usable, cards
from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.core.words import Ask, DeviceId, User
from lmxd.devices.measurement import Measurement
from lmxd.engines.engine import EngineKind
from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.footprints import CLOSED_FORM, DECLARED
from lmxd.estimate.learned import Card


class Catalog:
    """The profiles of one configuration. A reload makes a new catalog; running instances keep their old profiles.

    ``owner``: the uid of the one user whom it is for, whose files may be anywhere; None where it is for several.
    """

    def __init__(self, config: Config, owner: int | None = None) -> None:
        self.config = config
        self._owner = owner
        self._files = ModelFiles(config, owner)
        self._variants = {name: profile.variant() for name, profile in config.models.items()}
        self._idle_timeouts = {name: config.idle_timeout_of(profile) for name, profile in config.models.items()}
        self.estimator = Estimator(patient=False)
        self.build = ""
        self.usable = Usable()
        """The GPUs that llama-server can use, once they were measured."""
        self.peaks: dict[str, int] = {}
        """The most bytes that each variant of a declared engine was seen to take."""
        self.cards: dict[DeviceId, Card] = {}
        """The same by id, as the estimator knows them."""

    def see(self, usable: Usable, measured: Sequence[Measurement]) -> None:
        """Let estimates be those of the GPUs that were measured, with the engine's build and its backend there."""
        self.usable, self.cards = usable, cards(measured, usable, self.build)

    def renewed(self, config: Config) -> Catalog:
        """The same catalog with other models, which knows of engine and devices what this one knows."""
        made = Catalog(config, self._owner)
        made.estimator, made.build, made.usable = self.estimator, self.build, self.usable
        made.peaks, made.cards = self.peaks, self.cards
        return made

    def profile(self, name: str) -> Profile:
        """The profile of a name. LmxdError ``unknown_model`` if it is not configured."""
        if name not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise LmxdError("unknown_model", f"there is no model {name!r}", f"configured: {known}")
        return self.config.models[name]

    def resolve(self, name: str, size: Size = Size()) -> Resolved:
        """A model at a size. LmxdError ``unknown_model``. A fault of its file is raised when the file is needed."""
        profile = self.profile(name)
        formula = self._formula(name, profile)
        sizing = self._sizing(name, profile, formula)
        return Resolved(
            name=name,
            profile=profile,
            variant=self._variants[name],
            idle_timeout=self._idle_timeouts[name],
            size=size,
            launch=launch_at(size, profile, formula.context),
            sizing=sizing,
            usable=self.usable if sizing.kind is EngineKind.LLAMA_CPP else Usable(gpus=self.usable.gpus),
        )

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
        return Formula(
            name=name,
            file=self._files.find(name, profile.path),
            stretched=flags.stretches_context(profile.engine_flags),
            estimator=self.estimator,
            cards=self.cards,
            unknown=Card(build=self.build),
        )

    def _sizing(self, name: str, profile: Profile, formula: Formula) -> Sizing:
        """The sizing of the engine that runs a profile. No other place asks whether a profile has a command."""
        command = profile.command
        if command is None:
            return LlamaSizing(name=name, profile=profile, formula=formula)
        said = int((profile.estimated_memory_gb or 0) * GIB)
        return DeclaredSizing(
            command=command,
            size=max(said, self.peaks.get(self._variants[name], 0)),
            has_file=profile.path is not None,
            formula=formula,
        )

    def file(self, name: str) -> Path | None:
        """The model file of a profile; None for an engine without one. LmxdError if the file is missing."""
        profile = self.profile(name)
        return self._sizing(name, profile, self._formula(name, profile)).file()

    def card(self, device: DeviceId) -> Card:
        """The card of a GPU, for the estimator: its name and driver, and the engine's build."""
        return self.cards.get(device, Card(build=self.build))

    def basis(self, name: str) -> str:
        """The basis of a profile's bytes: declared, or closed form. A removed profile counts as the latter."""
        profile = self.config.models.get(name)
        return CLOSED_FORM if profile is None or profile.estimated_memory_gb is None else DECLARED

    def what_would_fit(self, ask: Ask, room: Mapping[DeviceId, int], layout: Layout) -> int | None:
        """The largest context that would fit in ``room``, for a request that exceeds every device; None if none."""
        if ask.profile not in self.config.models:
            return None
        resolved = self.resolve(ask.profile, Size(ctx=ask.context, slots=ask.spread))
        return resolved.what_would_fit(room, layout, spill=ask.spills)

    def warnings(self, gpus: Sequence[DeviceId]) -> list[str]:
        """Warnings about profiles that may not work on ``gpus`` (none: in RAM)."""
        found = []
        for name in self.config.models:
            resolved = self.resolve(name)
            found += resolved.sizing.warnings(resolved.launch, gpus)
            if resolved.profile.suspend and not self.config.suspends(resolved.profile):
                why = "prompt_cache_gb is 0" if not self.config.engine.prompt_cache_gb else "keep or preload is set"
                found.append(f"models.{name}.suspend has no effect: {why}")
        return found
