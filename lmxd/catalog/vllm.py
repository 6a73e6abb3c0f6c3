"""The sizing of vLLM: weights by the files' headers, the cache by what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmxd.config.profile import Profile
from lmxd.config.section import GIB
from lmxd.core.words import DeviceId
from lmxd.errors import LmxdError
from lmxd.estimate.companions import ALONE, Companions
from lmxd.estimate.footprints import Estimate
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload
from lmxd.gguf.reads import Reads


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSizing:
    """The sizing of a profile that vLLM runs. ``found``: its directory, or why it cannot be used."""

    command: ClassVar[tuple[str, ...]] = ()
    scales: ClassVar = False
    name: str
    profile: Profile
    found: Path | LmxdError

    def file(self) -> Path | None:
        if isinstance(self.found, LmxdError):
            raise self.found
        return self.found

    def told(self) -> Path | None:
        return self.file()

    def program(self) -> Path | None:
        return None

    def flags(self) -> tuple[str, ...]:
        return self.profile.engine_flags

    def kv_bytes(self, launch: Launch) -> int:
        return self._size() // 4

    def asleep(self, launch: Launch) -> int:
        """The files have the weights as they are loaded, or larger. Without any, they are no more than all of it."""
        directory = self.file()
        files = [] if directory is None else [file.stat().st_size for file in directory.glob("*.safetensors")]
        return sum(files) or self._size()

    def companions(self) -> Companions:
        return ALONE

    def layers(self) -> int | None:
        return None

    def offloads(self, launch: Launch) -> tuple[Offload, ...]:
        return ()

    def reads(self, launch: Launch) -> Reads:
        return Reads(on_gpu=0, in_ram=0)

    def _size(self) -> int:
        self.file()
        said = self.profile.estimated_memory_gb
        if said is None:
            problem = f"there is no formula for {self.name} yet"
            raise LmxdError("bad_model_file", problem, f"set models.{self.name}.estimated_memory_gb")
        return int(said * GIB)

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        size = self._size()
        return ([size] * len(gpus), 0) if gpus else ([], size)

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        raise LmxdError("bad_model_file", f"there is no formula for {self.name} yet")

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        return {}

    def is_warm(self, launch: Launch) -> bool:
        return True

    def read(self, launch: Launch) -> None:
        """Nothing needs to be read."""

    def warnings(self, launch: Launch, gpus: Sequence[DeviceId]) -> list[str]:
        return []
