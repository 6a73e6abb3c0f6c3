"""The sizing of llama-server: its bytes are those that the configuration declares, else the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmxd.catalog.doubts import doubts
from lmxd.catalog.formula import Formula
from lmxd.catalog.server_flags import server_flags
from lmxd.catalog.size import Size, launch_at
from lmxd.config.profile import Profile
from lmxd.config.section import GIB
from lmxd.core.words import BEGUN, DeviceId
from lmxd.errors import LmxdError
from lmxd.estimate.companions import Companions
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import Estimate
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload
from lmxd.gguf.reads import Reads, reads


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaSizing:
    """The sizing of a profile without a ``command``."""

    command: ClassVar[tuple[str, ...]] = ()
    scales: ClassVar = True
    measures: ClassVar = False
    begun: ClassVar = BEGUN
    shrinks: ClassVar = True
    shares: ClassVar = 1
    name: str
    profile: Profile
    formula: Formula

    def context(self, said: int | None) -> int:
        return self.formula.context(said)

    def file(self) -> Path | None:
        return self.formula.path

    def told(self) -> Path | None:
        return self.formula.path

    def program(self) -> Path | None:
        return None

    def flags(self, launch: Launch) -> tuple[str, ...]:
        beside = self.formula.beside
        return server_flags(self.profile, beside.template, beside.grammar)

    def kv_bytes(self, launch: Launch, gpus: Sequence[DeviceId]) -> int:
        return 0

    def holding(self, tokens: int) -> None:
        """A cache of the contexts of its slots alone."""

    def asleep(self, launch: Launch) -> int:
        return 0

    def companions(self) -> Companions:
        return self.formula.beside.companions

    def layers(self) -> int | None:
        return self.formula.layers()

    def offloads(self, launch: Launch) -> tuple[Offload, ...]:
        return self.formula.offloads(launch)

    def reads(self, launch: Launch) -> Reads:
        return reads(read_model(self.formula.path), launch)

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        """Bytes on each GPU, and bytes in RAM.

        A declared size is for the profile as configured, on one device. A request for more than the profile adds the
        difference of two estimates: 6 GiB declared, and a larger context that is estimated at 1 GiB more, are 7 GiB.
        Over several devices the declared size is divided as the estimate is.
        """
        declared = self._declared()
        try:
            found = self.formula.estimate(launch, gpus)
        except LmxdError as error:
            if declared is None or error.code != "bad_model_file" or len(gpus) > 1:
                raise
            self._check_declared(launch, error)
            return ([declared], 0) if gpus else ([], declared)
        sizes = [part.total for part in found.parts.devices]
        if declared is None:
            return sizes, found.host
        usual = self._usual_launch()
        if not gpus:
            return [], declared + max(0, found.host - self.formula.estimate(usual, ()).host)
        base = self.formula.estimate(usual, gpus[:1]).device
        if launch.split or (launch.gpu_layers, launch.overrides) != (usual.gpu_layers, usual.overrides):
            return [declared * size // max(1, base) for size in sizes], found.host
        return [declared + max(0, sizes[0] - base)], found.host

    def _declared(self) -> int | None:
        said = self.profile.estimated_memory_gb
        return None if said is None else int(said * GIB)

    def _usual_launch(self) -> Launch:
        """The launch that the declared size is for."""
        return launch_at(Size(), self.profile, self.formula.context)

    def _check_declared(self, launch: Launch, error: LmxdError) -> None:
        usual = self._usual_launch()
        if launch.context * launch.slots > usual.context * usual.slots:
            raise LmxdError(
                "invalid_params",
                f"{self.name} is known by its estimated_memory_gb alone, which is for {usual.context} tokens",
                f"ask for at most {usual.context}",
            ) from error

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        return self.formula.estimate(launch, gpus)

    def rest(self, launch: Launch, gpus: Sequence[DeviceId]) -> None:
        """Of its bytes all are learned together."""

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        return self.formula.inputs(launch)

    def is_warm(self, launch: Launch) -> bool:
        return self.formula.is_warm(launch)

    def read(self, launch: Launch) -> None:
        with suppress(LmxdError):
            self.formula.read(launch)

    def warnings(self, launch: Launch, gpus: Sequence[DeviceId]) -> list[str]:
        try:
            found = [self.formula.estimate(launch, (gpu,)) for gpu in gpus] or [self.formula.estimate(launch, ())]
        except LmxdError as error:
            return [f"models.{self.name}: {error}"]
        told = doubts(self.profile, self.formula.path, self.companions(), self.flags(launch))
        found_of_files = [f"models.{self.name}.{doubt}" for doubt in told]
        need = max(x.device if gpus else x.host for x in found)
        declared = self.profile.estimated_memory_gb
        if declared is None or declared >= round(need / GIB, 2):  # as it is said
            return found_of_files
        return [
            *found_of_files,
            f"models.{self.name}.estimated_memory_gb is {declared:g}, but the estimator finds {need / GIB:.2f} GiB:"
            " a launch may run out of memory",
        ]
