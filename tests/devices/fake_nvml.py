"""Something that behaves like pynvml: cards with memory and processes, and the faults that real ones have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(MESSAGES[value])
        self.value = value


MESSAGES = {
    2: "Invalid Argument",
    3: "Not Supported",
    6: "Not Found",
    9: "Driver Not Loaded",
    12: "NVML Shared Library Not Found",
    15: "GPU is lost",
    18: "Driver/library version mismatch",
}


@dataclass
class Card:
    uuid: str
    total: int
    reserved: int = 0
    name: str = "NVIDIA Fake"
    pci: str = "00000000:01:00.0"
    processes: dict[int, int | None] | None = field(default_factory=dict)
    other: int = 0
    """Bytes in use that no process owns up to."""
    fault: int | None = None
    slices: list[Card] | None = None
    """Of a GPU that MIG divides."""


class FakeNvml:
    NVMLError = NVMLError
    NVML_ERROR_INVALID_ARGUMENT = 2
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
    nvmlMemory_v2 = 0x2000028

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.init_fault: int | None = None
        self.opened = 0
        self.hang: threading.Event | None = None
        self.meanwhile: Callable[[Card], None] = lambda card: None
        """What happens between the look at a card's memory and the one at its processes."""

    def nvmlInit(self) -> None:
        if self.init_fault is not None:
            raise NVMLError(self.init_fault)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.00"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if not 0 <= index < len(self.cards):
            raise NVMLError(2)
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        return self._find(lambda c: c.uuid == uuid)

    def nvmlDeviceGetHandleByPciBusId(self, pci: str) -> Card:
        return self._find(lambda c: c.pci.endswith(pci.lower()))

    def _find(self, matches: Callable[[Card], bool]) -> Card:
        for card in self.cards:
            if matches(card):
                return card
        raise NVMLError(6)

    def nvmlDeviceGetMigMode(self, card: Card) -> tuple[int, int]:
        if card.uuid.startswith("MIG-"):
            raise NVMLError(3)
        return (1, 1) if card.slices is not None else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        if index >= len(card.slices or ()):
            raise NVMLError(6)
        return (card.slices or [])[index]

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> SimpleNamespace:
        assert version == self.nvmlMemory_v2, "v1 counts what the driver reserves as used"
        if self.hang is not None:
            self.hang.wait()
        if card.fault is not None:
            raise NVMLError(card.fault)
        used = card.other + sum(n or 0 for n in (card.processes or {}).values())
        self.meanwhile(card)
        return SimpleNamespace(
            total=card.total, reserved=card.reserved, used=used, free=card.total - card.reserved - used
        )

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        if card.processes is None:
            raise NVMLError(3)
        return [SimpleNamespace(pid=pid, usedGpuMemory=n) for pid, n in card.processes.items()]
