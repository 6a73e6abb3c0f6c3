"""The contract of a kind of engine: how its bytes are known, and which parts of a profile only that kind has.

``llama_cpp.py``, ``vllm.py`` and ``declared.py`` are the present kinds. The sizing of a further kind is one more
module, and a line in ``catalog.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lmxd.core.words import DeviceId
from lmxd.estimate.companions import Companions
from lmxd.estimate.footprints import Estimate
from lmxd.estimate.rests import Rest
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload
from lmxd.gguf.reads import Reads


class Sizing(Protocol):
    """The bytes of one model run by one kind of engine. A fault of its file is raised by methods that need it."""

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command line that the profile gives; empty if the engine's module makes them."""
        ...

    @property
    def scales(self) -> bool:
        """Whether its bytes depend on the launch: a smaller context takes fewer, and some layers can run in RAM."""
        ...

    @property
    def measures(self) -> bool:
        """Whether the engine finds out by itself, while it loads, what is free on its device."""
        ...

    @property
    def begun(self) -> float:
        """Seconds that its engine takes to start whatever it loads, until that was seen."""
        ...

    @property
    def shrinks(self) -> bool:
        """Whether a smaller context takes fewer bytes."""
        ...

    @property
    def shares(self) -> int:
        """The number of GPUs that it needs, for equal shares; 1 if it runs on one, or is divided as it fits."""
        ...

    def context(self, said: int | None) -> int:
        """The context of a launch that names none, by the word of its profile.

        0 stands for the longest that the model has; None for enough for most prompts, and at most that.
        """
        ...

    def file(self) -> Path | None:
        """The model file; None for an engine without one. LmxdError if the file is missing."""
        ...

    def told(self) -> Path | None:
        """The file that the engine is given; None if it is given none. LmxdError as for ``file``."""
        ...

    def program(self) -> Path | None:
        """The program that the profile itself names; None if the engine's module finds one."""
        ...

    def flags(self, launch: Launch) -> tuple[str, ...]:
        """The flags that the engine gets beside a launch's size. LmxdError if a file that one names cannot be used."""
        ...

    def kv_bytes(self, launch: Launch, gpus: Sequence[DeviceId]) -> int:
        """The bytes of the cache on each device, which the engine is told; 0 if they follow from what it is told.

        LmxdError as for ``charge``.
        """
        ...

    def holding(self, tokens: int) -> Sizing | None:
        """The same with a cache of so many tokens in all; None if its profile says no such number."""
        ...

    def asleep(self, launch: Launch) -> int:
        """The bytes of RAM that its weights take while it sleeps; 0 if its engine cannot. LmxdError as for ``file``."""
        ...

    def companions(self) -> Companions:
        """The files that go with the model. LmxdError if one cannot be used."""
        ...

    def layers(self) -> int | None:
        """The number of layers that can be divided over devices; None if the model cannot be divided."""
        ...

    def offloads(self, launch: Launch) -> tuple[Offload, ...]:
        """The ways to divide a launch between a GPU and RAM, the most on the GPU first; none if it cannot be."""
        ...

    def reads(self, launch: Launch) -> Reads:
        """The bytes that a launch reads for each token. LmxdError if the file cannot be read."""
        ...

    def charge(self, launch: Launch, gpus: Sequence[DeviceId]) -> tuple[list[int], int]:
        """The bytes to promise: a list of those on each GPU, and those in RAM. Without ``gpus`` it runs in RAM.

        LmxdError: ``model_file_missing``, ``bad_model_file``, or ``invalid_params`` for a launch that cannot be.
        """
        ...

    def estimate(self, launch: Launch, gpus: Sequence[DeviceId]) -> Estimate:
        """The estimate by part, without regard to a declared size. LmxdError as for ``charge``."""
        ...

    def rest(self, launch: Launch, gpus: Sequence[DeviceId]) -> Rest | None:
        """The part of a launch's bytes that is learned beside the exact ones; None if nothing is.

        LmxdError as for ``charge``.
        """
        ...

    def inputs(self, launch: Launch) -> dict[str, int | str]:
        """The figures from which the estimate is computed."""
        ...

    def is_warm(self, launch: Launch) -> bool:
        """Whether ``charge`` takes no time."""
        ...

    def read(self, launch: Launch) -> None:
        """Make ``charge`` take no time, which may take a while. ``charge`` raises the errors."""
        ...

    def warnings(self, launch: Launch, gpus: Sequence[DeviceId]) -> list[str]:
        """Warnings about a launch that may not work on one of ``gpus`` (none: in RAM).

        Of a missing file, or of a declared size that is less than the largest of the estimates.
        """
        ...
