"""The GPUs that the engine at hand can run models on: those for which its build has a backend."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from lmxd.catalog.layout import Layout
from lmxd.config.schema import Config
from lmxd.core.words import DeviceId
from lmxd.devices.drm.cards import any_sleeps
from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.devices.probes import measure_now
from lmxd.devices.roots import Roots
from lmxd.engines.engine import InstalledServer
from lmxd.engines.kinds import server
from lmxd.engines.visibility import Gpu
from lmxd.errors import LmxdError
from lmxd.estimate.backends import BACKENDS_OF, Backend, for_vendor
from lmxd.estimate.cards import card_of
from lmxd.estimate.learned import Card
from lmxd.text import device_name
from lmxd.vendor import Vendor


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSupport:
    """The GPUs of a machine, and the backends of its llama-server (None: not known, it may have any).

    ``key``: the key of the configuration that names its program. ``unreached``: why its backends do not find GPUs that
    are there. ``names``: of their makers; ``called``: GPU 0. ``needs_gpu``: it cannot run in RAM alone.
    """

    engine: str = "llama-server"
    key: str = "engine.path"
    unreached: tuple[str, ...] = ()
    backends: frozenset[Backend] | None = None
    gpus: Mapping[DeviceId, Gpu] = field(default_factory=dict)
    names: Mapping[DeviceId, str] = field(default_factory=dict)
    called: Mapping[DeviceId, str] = field(default_factory=dict)
    needs_gpu: bool = False

    def backend(self, gpu: DeviceId) -> Backend | None:
        """The backend that would run a model on a GPU; None if the build has none for it."""
        return for_vendor(self.backends, self.gpus[gpu].vendor if gpu in self.gpus else None)

    def among(self, gpus: Collection[DeviceId]) -> list[DeviceId]:
        """The GPUs of some that it has a backend for; all, if there are none, which is told otherwise."""
        return [gpu for gpu in gpus if self.backend(gpu) is not None] or list(gpus)

    def cards(self, devices: Iterable[DeviceId]) -> tuple[Gpu, ...]:
        """The GPUs among some devices."""
        return tuple(self.gpus[d] for d in devices if d in self.gpus)

    def seeing(self, measured: Sequence[Measurement]) -> GpuSupport:
        """The same engine beside the GPUs that were measured."""
        gpus = {DeviceId(m.id): m for m in measured if m.kind is DeviceKind.GPU}
        return replace(
            self,
            gpus={
                gpu: Gpu(id=gpu, vendor=m.vendor or Vendor.NVIDIA, pci=m.pci, rocm=m.rocm, cuda=m.cuda)
                for gpu, m in gpus.items()
            },
            names={gpu: m.name for gpu, m in gpus.items()},
            called={gpu: device_name(m.id, m.ref) for gpu, m in gpus.items()},
        )

    def of(self, layout: Layout) -> Layout:
        """The devices but GPUs without a backend. LmxdError ``engine_missing`` if neither a GPU nor RAM is left."""
        gpus = layout.of_kind(DeviceKind.GPU)
        without = {gpu for gpu in gpus if self.backend(gpu) is None}
        if self.needs_gpu and len(without) == len(gpus):
            problem = f"{self.engine} is built for GPUs, and there is none for it"
            raise LmxdError("engine_missing", problem, f"install a build for the CPU, and set {self.key} to it")
        if not without:
            return layout
        left = layout.without(without)
        if not left.of_kind(DeviceKind.GPU) and not left.has_ram:
            raise LmxdError("engine_missing", self._problem(without), self._remedy(without))
        return left

    def warnings(self, served: Set[DeviceId] = frozenset()) -> Iterator[str]:
        """A sentence if there are GPUs that no backend serves, and for each that its backend does not find.

        ``served``: GPUs that another engine serves, so that this one need not if it serves any.
        """
        yield from (
            sentence if self.key == "engine.path" else f"{self.key.rpartition('.')[0]}: {sentence}"
            for sentence in self.unreached
        )
        without = [gpu for gpu in self.gpus if self.backend(gpu) is None]
        if len(without) < len(self.gpus):
            without = [gpu for gpu in without if gpu not in served]
        if without:
            yield f"{self._problem(without)}: {self._remedy(without)}"

    def _problem(self, gpus: Iterable[DeviceId]) -> str:
        has = " and ".join(sorted(self.backends or ()))
        build = f"a {has} build" if has else "built for the CPU alone"
        them = ", ".join(f"{self.called.get(gpu) or gpu} ({self.names.get(gpu) or 'GPU'})" for gpu in gpus)
        return f"{self.engine} is {build}, and no model of it can run on {them}"

    def _remedy(self, gpus: Iterable[DeviceId]) -> str:
        vendors = sorted({self.gpus[gpu].vendor for gpu in gpus})
        wanted = " and ".join(f"for {v.brand} a build with {' or '.join(BACKENDS_OF[v])}" for v in vendors)
        return f"install {wanted}, and set {self.key}; or say gpu: {{device: host}} to run models in RAM"


def cards(measured: Sequence[Measurement], usable: GpuSupport, build: str) -> dict[DeviceId, Card]:
    """The GPUs that were measured, as the estimator knows them, with the backend of the engine's ``build`` there."""
    return {
        DeviceId(m.id): card_of(
            m.name,
            driver=m.driver,
            build=build,
            vendor=m.vendor,
            cores=m.cores,
            compute=m.compute,
            backends=usable.backends,
        )
        for m in measured
        if m.kind is DeviceKind.GPU
    }


def warnings(engines: Sequence[GpuSupport]) -> Iterator[str]:
    """The warnings of several engines of one machine."""
    served = {gpu for engine in engines for gpu in engine.gpus if engine.backend(gpu) is not None}
    for engine in engines:
        yield from engine.warnings(served)


def usable_here(config: Config, nvml: Any = None) -> tuple[dict[str, GpuSupport], list[Measurement]]:
    """The GPUs of this machine that each engine of a configuration can use, and all its devices, without a daemon.

    ``nvml``: the pynvml module by default, or something that behaves like it.
    """
    import pynvml

    measured = measure_now(config.gpu.refs, nvml or pynvml, ram=config.uses_ram)
    engines = {
        name: server(settings.kind, settings.path, settings.environment, None, settings.key)
        for name, settings in config.all_engines().items()
    }
    return {name: usable_gpus(engine, measured) for name, engine in engines.items()}, measured


def usable_gpus(engine: InstalledServer, measured: Sequence[Measurement], roots: Roots = Roots()) -> GpuSupport:
    """The GPUs that were measured, and the backends of an engine. It may take a while.

    Where a card sleeps, what would wake it is not asked, and not told of: the first launch finds out.
    """
    asleep = any_sleeps(roots)
    there = {DeviceId(m.id): m for m in measured if m.kind is DeviceKind.GPU}
    try:
        binary = engine.binary()
        backends = engine.backends(frozenset(there), asleep=asleep) if there else None
        found = GpuSupport(
            engine=f"{engine.called} {binary.name}", key=engine.key, backends=backends, needs_gpu=engine.needs_gpu
        ).seeing(measured)
        working = found.cards(gpu for gpu, m in there.items() if m.unavailable is None)
        return replace(found, unreached=tuple(engine.unreached(working, asleep=asleep)))
    except LmxdError:
        return GpuSupport(key=engine.key).seeing(measured)  # that there is no engine is told elsewhere
