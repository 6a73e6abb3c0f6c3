"""The contract of a kind of engine: how its bytes are known, and what of a profile only that kind has.

``llama_cpp.py`` and ``declared.py`` are the kinds that there are; the next is one more module, and a line in
``catalog.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lmxd.core.words import DeviceId
from lmxd.engines.engine import EngineKind
from lmxd.estimate.footprints import Estimate
from lmxd.gguf.launch import Launch


class Sizing(Protocol):
    """One model run by one kind of engine. What is wrong with its file is raised by what needs the file."""

    @property
    def kind(self) -> EngineKind:
        """Which engine it is."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """The words of its command line that the profile says; empty where the engine's module has them."""
        ...

    @property
    def scales(self) -> bool:
        """Whether its bytes follow its launch: a smaller context takes fewer, and some layers can run in RAM."""
        ...

    def file(self) -> Path | None:
        """Its model file; None for an engine that has none. LmxdError if it should have one."""
        ...

    def told(self) -> Path | None:
        """The file that its engine is told; None if it is told none. LmxdError as for ``file``."""
        ...

    def layers(self) -> int | None:
        """Those that can be divided over devices; None if it cannot be divided."""
        ...

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        """(bytes on each GPU, bytes in RAM) to promise. Without ``gpus`` it runs in RAM.

        LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` for a launch that cannot be.
        """
        ...

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        """Bytes by part, whatever was declared. LmxdError as for ``charge``."""
        ...

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        """What the estimate is computed from."""
        ...

    def is_warm(self, launch: Launch) -> bool:
        """Whether ``charge`` takes no time."""
        ...

    def read(self, launch: Launch) -> None:
        """Make it warm, which may take a while. What is wrong comes up when it is charged."""
        ...

    def warnings(self, launch: Launch, *, on_gpu: bool) -> list[str]:
        """What works, but hardly as meant: missing files, and words that the estimate contradicts."""
        ...
