"""The parts of a sizing that engines have whose models are not divided, and whose bytes are declared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from lmxd.catalog.sizing import Sizing
from lmxd.core.words import DeviceId
from lmxd.estimate.companions import ALONE, Companions
from lmxd.gguf.launch import Launch
from lmxd.gguf.offload import Offload
from lmxd.gguf.reads import Reads

OF_PYTHON: Final = 20.0
"""Seconds that vLLM took to start on two cores with its files in the page cache, compiled before: 9 to 32. SGLang and
TGI, which are built alike, were not measured."""


class WholeSizing:
    """A base for the sizing of such an engine, which says its own bytes."""

    __slots__ = ()
    scales: ClassVar = False

    def kv_bytes(self, launch: Launch, gpus: Sequence[DeviceId]) -> int:
        return 0

    def holding(self, tokens: int) -> Sizing | None:
        return None

    def asleep(self, launch: Launch) -> int:
        return 0

    def companions(self) -> Companions:
        return ALONE

    def layers(self) -> int | None:
        return None

    def offloads(self, launch: Launch) -> tuple[Offload, ...]:
        return ()

    def reads(self, launch: Launch) -> Reads:
        return Reads(on_gpu=0, in_ram=0)

    def is_warm(self, launch: Launch) -> bool:
        return True

    def read(self, launch: Launch) -> None:
        """Nothing needs to be read."""

    def warnings(self, launch: Launch, gpus: Sequence[DeviceId]) -> list[str]:
        return []
