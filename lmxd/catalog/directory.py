"""The sizing of SGLang and TGI, which serve a directory: its bytes are those that the configuration declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmxd.catalog.vllm import longest_or
from lmxd.catalog.whole import OF_PYTHON, WholeSizing
from lmxd.config.profile import Profile
from lmxd.config.section import GIB
from lmxd.core.words import DeviceId
from lmxd.errors import LmxdError
from lmxd.estimate.footprints import Estimate
from lmxd.estimate.rests import Rest
from lmxd.gguf.launch import Launch


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectorySizing(WholeSizing):
    """The sizing of a profile whose directory no formula is about.

    ``found``: the directory, or why it cannot be used.
    """

    command: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar = True
    begun: ClassVar = OF_PYTHON
    shrinks: ClassVar = False
    name: str
    profile: Profile
    found: Path | LmxdError

    @property
    def shares(self) -> int:
        return self.profile.gpus

    def context(self, said: int | None) -> int:
        return longest_or(said, self.found)

    def file(self) -> Path | None:
        if isinstance(self.found, LmxdError):
            raise self.found
        return self.found

    def told(self) -> Path | None:
        return self.file()

    def program(self) -> Path | None:
        return None

    def flags(self, launch: Launch) -> tuple[str, ...]:
        return self.profile.engine_flags

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        """The declared bytes on each GPU."""
        self.file()
        size = int((self.profile.estimated_memory_gb or 0) * GIB)
        return ([size] * len(gpus), 0) if gpus else ([], size)

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        problem = f"no formula knows what {self.name} takes: its bytes are as declared"
        raise LmxdError("bad_model_file", problem, f"see models.{self.name}.estimated_memory_gb")

    def rest(self, launch: Launch, gpus: Sequence[DeviceId]) -> Rest | None:
        return None

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        return {}
