"""Profiles turned into what the core is asked for and what an engine is told: names in, bytes and plans out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lmxd.catalog.model_files import ModelFiles
from lmxd.catalog.options import NO_ROOM, Room, Sizing, options
from lmxd.config.profile import Profile
from lmxd.config.schema import Config
from lmxd.config.section import GIB
from lmxd.core.words import Ask, Option
from lmxd.devices.measurement import HOST, Kind
from lmxd.engines.engine import Plan
from lmxd.engines.llama_cpp import flags
from lmxd.errors import LmxdError
from lmxd.estimate.estimator import Estimator
from lmxd.estimate.files import find_model, is_read, read_model
from lmxd.estimate.fits import largest_context
from lmxd.estimate.footprints import CLOSED_FORM, DECLARED, DEFAULT_CONTEXT, Estimate, inputs
from lmxd.estimate.learned import Card
from lmxd.gguf.launch import Launch


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What a request may choose; None is the profile's."""

    ctx: int | None = None
    slots: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    priority: int | None = None
    share: bool = True
    cpu_spill: bool | None = None
    max_instances: int | None = None


class Catalog:
    """One configuration's profiles. A reload makes a new one; profiles of running instances stay theirs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._files = ModelFiles(config)
        self.estimator = Estimator(patient=False)
        self.build = ""
        self.peaks: dict[str, int] = {}
        """The most that each variant of another engine was seen to take."""
        self.cards: dict[str, Card] = {}
        """GPUs by id; the daemon fills it in when it has looked."""

    def profile(self, name: str) -> Profile:
        """LmxdError ``unknown_model`` for a name that is not configured."""
        if name not in self.config.models:
            known = ", ".join(sorted(self.config.models)) or "none"
            raise LmxdError("unknown_model", f"there is no model {name!r}", f"configured: {known}")
        return self.config.models[name]

    def path(self, name: str) -> Path:
        """LmxdError ``model_file_missing`` if it cannot be found, ``model_file_forbidden`` if it may not be opened."""
        own = self.profile(name).path
        return self._files.at(find_model(self.config.model_dir, name) if own is None else own)

    def place(self, name: str) -> str | None:
        """Its model file; another engine may have none. LmxdError if it should have one."""
        profile = self.profile(name)
        return None if profile.command is not None and profile.path is None else str(self.path(name))

    def launch(self, name: str, size: Size = Size()) -> Launch:
        """What an instance of a profile would be started with, at a size."""
        profile = self.profile(name)
        return Launch(
            context=size.ctx or profile.context_length or self._usual_context(name),
            slots=max(profile.slots, size.slots or 1),
            ubatch=profile.ubatch_size,
            batch=profile.batch_size,
            cache_type_k=size.cache_type_k or profile.cache_type_k,
            cache_type_v=size.cache_type_v or profile.cache_type_v,
            flash=profile.flash_attention,
            gpu_layers=profile.gpu_layers,
            outputs_all=flags.computes_all_outputs(profile.engine_flags),
        )

    def _usual_context(self, name: str) -> int:
        """Where nothing is said: as much as most prompts need, but no more than the model was trained for."""
        try:
            return min(DEFAULT_CONTEXT, read_model(self.path(name)).context)
        except LmxdError:
            return DEFAULT_CONTEXT  # what is wrong comes up when its size is asked for

    def is_warm(self, name: str, size: Size = Size()) -> bool:
        """Whether its header has been read, and the engine asked where it must be: then deciding takes no time."""
        try:
            path, launch = self.path(name), self.launch(name, size)
        except LmxdError:
            return True  # there is nothing to read
        if self.profile(name).command is not None:
            return True
        return is_read(path) and all(self.estimator.settled(path, launch, cards) for cards in self._targets())

    def read(self, name: str, size: Size = Size()) -> None:
        """Read its header, and have the engine itself asked where the closed form is unsure.

        May take a while; what is wrong comes up when the model is asked for.
        """
        with suppress(LmxdError):
            path, launch = self.path(name), self.launch(name, size)
            if self.profile(name).command is not None:
                return
            for cards in self._targets():
                replace(self.estimator, patient=True).estimate(path, launch, cards)

    def _targets(self) -> list[tuple[Card, ...]]:
        """What a launch is estimated for: each kind of GPU here, or RAM."""
        return [(card,) for card in dict.fromkeys(self.cards.values())] or [()]

    def basis(self, name: str) -> str:
        profile = self.config.models.get(name)
        return CLOSED_FORM if profile is None or profile.estimated_memory_gb is None else DECLARED

    def charge(self, name: str, launch: Launch, gpus: Sequence[str]) -> tuple[list[int], int]:
        """(bytes on each GPU, bytes in RAM) to promise: the user's word if there is one, else the estimate.

        Without ``gpus`` it runs in RAM. The word is about where the model runs, and about the profile as it
        stands: what is asked beyond it is added by the formula. Over several devices it is divided as the formula is.
        LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` for a
        context that the model was not trained for or settings that exclude each other.
        """
        declared = self._word(name)
        if self.profile(name).command is not None:
            return ([declared or 0], 0) if gpus else ([], declared or 0)
        try:
            found = self.formula(name, launch, gpus)
        except LmxdError as error:
            if declared is None or error.code != "bad_model_file" or len(gpus) > 1:
                raise
            self._check_word(name, launch, self.launch(name), error)
            return ([declared], 0) if gpus else ([], declared)
        sizes = [part.total for part in found.parts.devices]
        if declared is None:
            return sizes, found.host
        usual = self.launch(name)
        if not gpus:
            return [], declared + max(0, found.host - self.formula(name, usual, ()).host)
        base = self.formula(name, usual, gpus[:1]).device
        if launch.split or launch.gpu_layers != usual.gpu_layers:
            return [declared * size // max(1, base) for size in sizes], found.host
        return [declared + max(0, sizes[0] - base)], found.host

    def _word(self, name: str) -> int | None:
        """Bytes that the configuration says, and for a ``command`` no less than it was seen to take."""
        profile = self.profile(name)
        if profile.estimated_memory_gb is None:
            return None
        return max(int(profile.estimated_memory_gb * GIB), self.peaks.get(profile.variant(), 0))

    def _check_word(self, name: str, launch: Launch, usual: Launch, error: LmxdError) -> None:
        if launch.context * launch.slots > usual.context * usual.slots:
            raise LmxdError(
                "invalid_params",
                f"{name} is known by its estimated_memory_gb alone, which is for {usual.context} tokens",
                f"ask for at most {usual.context}",
            ) from error

    def formula(self, name: str, launch: Launch, gpus: Sequence[str]) -> Estimate:
        """The estimate, whatever was declared. LmxdError as for ``charge``."""
        path = self.path(name)
        self._check_context(name, launch, path)
        return self.estimator.estimate(path, launch, [self.card(gpu) for gpu in gpus])

    def inputs(self, name: str, launch: Launch) -> dict[str, int | str]:
        """What goes into the closed form; nothing for a model that it does not cover."""
        try:
            return inputs(read_model(self.path(name)), launch)
        except LmxdError:
            return {}

    def _check_context(self, name: str, launch: Launch, path: Path) -> None:
        try:
            trained = read_model(path).context
        except LmxdError:
            return  # what is wrong with the file, or not covered, the estimate says
        stretched = flags.stretches_context(self.profile(name).engine_flags)
        if launch.context > trained and not stretched:
            raise LmxdError(
                "invalid_params",
                f"ctx is {launch.context}, but {name} was trained for {trained} tokens",
                f"ask for at most {trained}, or add --rope-scaling to its engine_flags",
            )

    def card(self, device: str) -> Card:
        """What is known of a GPU, for the estimator."""
        return self.cards.get(device, Card(build=self.build))

    def _sizing(self, name: str) -> Sizing:
        profile = self.profile(name)
        own = profile.command is None
        return Sizing(
            charge=lambda launch, gpus: self.charge(name, launch, gpus),
            layers=(lambda: self._layers(name)) if own else lambda: None,
            split=profile.split and own,
        )

    def _layers(self, name: str) -> int | None:
        """With the output; None for a model that only its user knows of, which cannot be divided."""
        try:
            return read_model(self.path(name)).all_layers + 1
        except LmxdError:
            return None

    def ask(self, name: str, size: Size, devices: Mapping[str, Kind], room: Room = NO_ROOM) -> Ask:
        """What the core is asked for."""
        profile, launch = self.profile(name), self.launch(name, size)
        spill = profile.cpu_spill if size.cpu_spill is None else size.cpu_spill
        if spill and profile.command is not None:
            raise LmxdError("invalid_params", f"cpu_spill: {name} is not run by llama-server", "leave it out")
        return Ask(
            profile=name,
            variant=profile.variant(),
            context=launch.context,
            slots=size.slots or 1,
            spread=launch.slots,
            options=options(self._sizing(name), launch, devices, room, spill=spill),
            priority=profile.priority if size.priority is None else size.priority,
            pin=profile.pin,
            idle_timeout=self.config.idle_timeout_of(profile),
            share=profile.share == "compatible" and size.share,
            max_instances=size.max_instances,
        )

    def plan(self, instance: str, ask: Ask, option: Option, home: Path, capacity: Mapping[str, int]) -> Plan:
        """What the engine is told for an admitted instance."""
        profile = self.profile(ask.profile)
        named = profile.command is None or any("{model}" in word for word in profile.command)
        gpus = tuple(device for device in option.demand if device != HOST)
        place = gpus[0] if gpus else HOST
        return Plan(
            instance=instance,
            profile=ask.profile,
            model=self.path(ask.profile) if named else None,
            context=ask.context,
            slots=ask.spread,
            batch=profile.batch_size,
            ubatch=profile.ubatch_size,
            cache_type_k=profile.cache_type_k,
            cache_type_v=profile.cache_type_v,
            flash=profile.flash_attention,
            gpu_layers=profile.gpu_layers if option.gpu_layers is None else option.gpu_layers,
            split=option.split,
            variant=ask.variant,
            threads=profile.threads,
            flags=profile.engine_flags,
            gpus=gpus,
            endpoint=self.config.engine.endpoint,
            home=home,
            command=profile.command or (),
            env=profile.env,
            health=profile.health,
            size=option.demand[place],
            capacity=max(1, capacity.get(place, 1)),
        )

    def what_would_fit(self, ask: Ask, room: Mapping[str, int], devices: Mapping[str, Kind]) -> int | None:
        """For a request that exceeds every device: the largest context that would fit in ``room``, if any."""
        if ask.profile not in self.config.models or self.profile(ask.profile).command is not None:
            return None

        sizing = self._sizing(ask.profile)

        def fits(launch: Launch) -> bool:
            found = options(sizing, launch, devices, Room(free={}, ceiling=room), spill=ask.spills)
            return any(all(n <= room.get(d, 0) for d, n in option.demand.items()) for option in found)

        return largest_context(self.launch(ask.profile, Size(ctx=ask.context, slots=ask.spread)), fits, ask.context)

    def warnings(self, *, on_gpu: bool) -> list[str]:
        """What works, but hardly as meant: missing files, and words that the formula contradicts."""
        found = []
        for name, profile in self.config.models.items():
            if profile.command is not None:
                continue
            try:
                found_now = self.formula(name, self.launch(name), ("a GPU",) if on_gpu else ())
            except LmxdError as error:
                found.append(f"models.{name}: {error}")
                continue
            need = found_now.device if on_gpu else found_now.host
            declared = profile.estimated_memory_gb
            if declared is not None and declared * GIB < need:
                found.append(
                    f"models.{name}.estimated_memory_gb is {declared:g}, but the estimator finds {need / GIB:.2f} GiB:"
                    " a launch may run out of memory"
                )
        return found
