"""The sizing of any other engine: its bytes are those that the configuration declares, or more if it took more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lmxd.catalog.formula import Formula
from lmxd.catalog.whole import WholeSizing
from lmxd.core.words import BEGUN, DeviceId
from lmxd.engines.templates import places
from lmxd.estimate.footprints import Estimate
from lmxd.gguf.launch import Launch


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredSizing(WholeSizing):
    """The sizing of a profile with a ``command``.

    ``size``: its bytes, on a GPU or in RAM. ``has_file``: whether the profile names a model file. ``formula``: the
    estimate of that file, which the command may be given.
    """

    measures: ClassVar = True
    begun: ClassVar = BEGUN
    shrinks: ClassVar = False
    shares: ClassVar = 1
    command: tuple[str, ...]
    size: int
    has_file: bool
    formula: Formula

    def context(self, said: int | None) -> int:
        return self.formula.context(said)

    def file(self) -> Path | None:
        return self.formula.path if self.has_file else None

    def told(self) -> Path | None:
        return self.formula.path if "model" in places(*self.command) else None

    def program(self) -> Path | None:
        return Path(self.command[0])

    def flags(self, launch: Launch) -> tuple[str, ...]:
        return ()

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        return ([self.size], 0) if gpus else ([], self.size)

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        return self.formula.estimate(launch, gpus)

    def rest(self, launch: Launch, gpus: Sequence[DeviceId]) -> None:
        """Of its bytes all are learned together."""

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        return self.formula.inputs(launch)
