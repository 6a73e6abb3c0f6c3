"""One model at one size, looked up once. All later questions about it go to this value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from lmxd.catalog.gpu_support import GpuSupport
from lmxd.catalog.layout import RAM_ID, Layout
from lmxd.catalog.options import NO_ROOM, Room, options
from lmxd.catalog.size import Size
from lmxd.catalog.sizing import Sizing
from lmxd.config.engine import EngineSettings
from lmxd.config.profile import Profile
from lmxd.config.section import GIB
from lmxd.core.decisions import StartInstance
from lmxd.core.words import FOREVER, Ask, Demand, DeviceId, Option, User
from lmxd.devices.measurement import DeviceKind
from lmxd.engines.engine import UPSTREAM_NAMES, Plan
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.files import read_model
from lmxd.estimate.fits import largest, largest_context
from lmxd.gguf.carrying import not_carried
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload, divided

_UNKNOWN: Final = "its file does not tell what it keeps of a conversation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A profile, its launch at a size, and the sizing of its kind of engine.

    It holds for the configuration and the devices of the moment at which it was made: after a wait it is made again.
    """

    name: str
    profile: Profile
    variant: str
    idle_timeout: float
    size: Size
    launch: Launch
    sizing: Sizing
    engine: EngineSettings
    usable: GpuSupport

    @property
    def words(self) -> tuple[str, ...]:
        """The words by which its profile has its engine started. LmxdError if a file that it names cannot be used."""
        return (*self.sizing.command, *self.sizing.flags(self.launch))

    @property
    def not_carried(self) -> str | None:
        """The reason why a conversation is processed anew when it moves to another step; None if it is carried."""
        try:
            path, beside = self.sizing.file(), self.sizing.companions()
            if path is None:
                return _UNKNOWN
            model = read_model(path)
        except LmxdError:
            return _UNKNOWN
        return not_carried(
            model,
            self.launch,
            alike=self.profile.slots == 1 or self.launch.unified,
            projector=beside.projector is not None,
            draft=beside.draft is not None,
        )

    @property
    def widened(self) -> Resolved | None:
        """The same with ``swa_full``, where that alone would have its conversations carried; None elsewhere."""
        wide = replace(self, launch=replace(self.launch, swa_full=True))
        return wide if self.not_carried is not None and wide.not_carried is None else None

    def is_warm(self) -> bool:
        """Whether its bytes are known without reading files or asking an engine."""
        return self.sizing.is_warm(self.launch)

    def read(self) -> None:
        """Read its file, and make the dry run that it needs. It may take a while."""
        self.sizing.read(self.launch)

    def ask(self, layout: Layout, room: Room = NO_ROOM, private_to: User | None = None) -> Ask:
        """The ask for the core. LmxdError if the model cannot be run so."""
        profile, size, launch = self.profile, self.size, self.launch
        if size.min_gpu_layers and self.sizing.scales and not layout.goes_to_gpu(launch):
            problem = f"min_gpu_layers is {size.min_gpu_layers}, but {self.name} runs in RAM alone here"
            raise LmxdError("invalid_params", problem, "leave it out")
        return Ask(
            profile=self.name,
            variant=self.variant,
            context=launch.context,
            slots=self._slots(),
            spread=launch.slots,
            options=self._options(launch, layout, room, self.offloads()),
            priority=profile.priority if size.priority is None else size.priority,
            pin=profile.pin,
            idle_timeout=self.idle_timeout,
            share=profile.share == "compatible" and size.share,
            max_instances=size.max_instances,
            private_to=private_to,
            sleeps=self._sleeps(layout),
            elastic=profile.is_elastic,
            unified=profile.shares_cache,
            idle_shrink=profile.idle_shrink if profile.is_elastic else FOREVER,
            begun=self.sizing.begun,
            measures=self.engine.load_timeout if self.sizing.measures and layout.of_kind(DeviceKind.GPU) else 0.0,
        )

    def _slots(self) -> int:
        """The slots of a lease: in a cache that all share, as many as have its tokens together.

        All of them, if its holder may use more than that. LmxdError for more than there are.
        """
        size, launch = self.size, self.launch
        if not self.profile.shares_cache or size.exact:
            return size.slots or 1
        if not size.bounded:
            return launch.slots
        share = launch.context // launch.slots
        if (wanted := size.shares(share)) <= launch.slots:
            return wanted
        what = f"{size.slots or 1} slots of {size.ctx or share} tokens are more than {self.name} has for all of them"
        remedy = "ask for less, or raise context_length or slots"
        raise LmxdError("invalid_params", f"{what} ({launch.context})", remedy)

    def _sleeps(self, layout: Layout) -> Demand:
        """The RAM for its weights while it sleeps; none where it may not have so much, or its engine cannot."""
        most = self.profile.memory_max_gb
        size = self.sizing.asleep(self.launch) if self.profile.sleep else 0
        return {} if most is not None and size > most * GIB else layout.beside(size)

    def offloads(self) -> tuple[Offload, ...]:
        """The ways to divide it between a GPU and RAM, the most on the GPU first; none if its profile allows none.

        LmxdError if the fewest layers on the GPU are more than there can be.
        """
        profile, asked = self.profile, self.size.min_gpu_layers
        if asked is not None and not self.sizing.scales:
            raise LmxdError("invalid_params", f"min_gpu_layers: {self.name} is not run by llama-server", "leave it out")
        ways = self.sizing.offloads(self.launch)
        most = ways[0].whole if ways else 0
        if ways and (asked or 0) > most and self.launch.gpu_layers is not None:
            problem = f"min_gpu_layers is {asked}, but models.{self.name} has {most} on a GPU"
            raise LmxdError("invalid_params", problem, f"ask for {most} at most")
        if profile.fit == "whole":
            return ()
        least = min(most, max(profile.min_gpu_layers, asked or 0))
        return tuple(way for way in ways if way.whole >= least)

    def _options(self, launch: Launch, layout: Layout, room: Room, offloads: Sequence[Offload]) -> tuple[Option, ...]:
        """The ways to place it on the devices that its engine can use. LmxdError if there are none."""
        usable, split = self.usable.of(layout), self.profile.split
        return options(self.sizing, launch, usable, room, split=split, offloads=offloads, alike=self.usable.backend)

    def is_divisible(self, layout: Layout) -> bool:
        """Whether a part of it could run in RAM beside a GPU, if its profile allowed it, which it does not."""
        if self.profile.fit != "whole" or not set(layout.of_kind(DeviceKind.GPU)) - layout.pools.keys():
            return False
        return len(self.sizing.offloads(self.launch)) > 1

    def fits_unpacked(self, room: Mapping[DeviceId, int], layout: Layout) -> bool:
        """Whether it would fit in ``room`` without the second copy of weights that are rearranged for the CPU."""
        if not self.sizing.scales or not self.launch.repack:
            return False
        return self._fits(replace(self.launch, repack=frozenset()), room, layout, ())

    def tokens_that_fit(self, room: Mapping[DeviceId, int], layout: Layout) -> int | None:
        """The most tokens of cache (kv_tokens), in whole contexts, that would fit in ``room``.

        None if none would, or if its profile does not say them.
        """

        def fits(tokens: int) -> bool:
            other = self.sizing.holding(tokens)
            return other is not None and replace(self, sizing=other)._fits(self.launch, room, layout, ())

        return largest(self.profile.kv_tokens or 0, fits, self.launch.context)

    def _fits(self, launch: Launch, room: Mapping[DeviceId, int], layout: Layout, offloads: Sequence[Offload]) -> bool:
        """Whether one of the ways to place a launch fits in ``room``."""
        found = self._options(launch, layout, Room(free={}, ceiling=room), offloads)
        return any(all(need <= room.get(d, 0) for d, need in option.demand.items()) for option in found)

    def what_would_fit(self, room: Mapping[DeviceId, int], layout: Layout, spills: int) -> int | None:
        """The largest context, up to its own, that would fit in ``room``; None if none would.

        ``spills``: how much of it may run in RAM.
        """
        if not self.sizing.shrinks:
            return None

        offloads = self.sizing.offloads(self.launch)[: spills + 1] if spills else ()
        fits = partial(self._fits, room=room, layout=layout, offloads=offloads)
        return largest_context(self.launch, fits, self.launch.context)

    def plan(
        self, start: StartInstance, home: Path, capacity: Mapping[DeviceId, int], used: Mapping[DeviceId, int]
    ) -> Plan:
        """The plan for the engine of an instance that was admitted. ``used``: bytes in use before it starts."""
        profile, ask, option = self.profile, start.ask, start.option
        gpus = tuple(device for device in option.devices if device != RAM_ID)
        place = gpus[0] if gpus else RAM_ID
        return Plan(
            instance=start.instance,
            profile=self.name,
            model=self.sizing.told(),
            launch=self.placed(option),
            variant=ask.variant,
            threads=profile.threads,
            flags=self.sizing.flags(self.launch),
            companions=self.sizing.companions(),
            gpus=tuple(self.usable.gpus.get(gpu) or Gpu(id=gpu) for gpu in gpus),
            endpoint=profile.endpoint or self.engine.endpoint,
            home=home,
            kind=self.engine.kind,
            engine=self.engine.name,
            command=self.sizing.command,
            env=profile.env,
            health=profile.health,
            upstream_name=profile.upstream_name or UPSTREAM_NAMES.get(self.engine.kind),
            size=self._told(option.demand[place]),
            capacity=max(1, capacity.get(place, 1)),
            used=used.get(place, 0),
            kv_bytes=self.sizing.kv_bytes(self.launch, gpus),
            kv_tokens=profile.kv_tokens or self.launch.context * self.launch.slots,
            sleeps=profile.sleep,
        )

    def _told(self, promised: int) -> int:
        """The bytes that its engine is told it may take: those that its profile declares, if it does.

        What it was seen to take, it is promised, and never told: it would take more for it, and be promised that.
        """
        said = self.profile.estimated_memory_gb
        return promised if said is None else int(said * GIB)

    def placed(self, option: Option) -> Launch:
        """Its launch at the place of an option."""
        launch = self.launch
        if option.gpu_layers is not None:
            launch = divided(launch, option.gpu_layers, option.in_ram)
        return replace(
            launch.beside(len(set(option.devices) - {RAM_ID})),
            split=tuple(map(float, option.split)),
        )
