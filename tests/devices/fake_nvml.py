"""Something that behaves like pynvml: cards with memory and processes, and the faults that real ones have."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(MESSAGES.get(value, "Unknown Error"))
        self.value = value


MESSAGES = {
    1: "Uninitialized",
    2: "Invalid Argument",
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    9: "Driver Not Loaded",
    12: "NVML Shared Library Not Found",
    13: "Function Not Found",
    15: "GPU is lost",
    18: "Driver/library version mismatch",
    25: "Argument version mismatch",
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
    faults: dict[str, int] = field(default_factory=dict)
    """Codes by the call that fails with them: "Handle", "UUID", "Memory", "Memory_v2", "Compute", "Graphics", "Mig"."""
    hangs: dict[str, threading.Event] = field(default_factory=dict)
    """By the call, as above: the event until which it does not come back."""
    drawing: dict[int, int | None] = field(default_factory=dict)
    """The graphics processes."""
    cores: int = 0
    compute: tuple[int, int] = (9, 0)
    slices: list[Card] | None = None
    """Of a GPU that MIG divides."""


class Handle(NamedTuple):
    """A card as NVML names it until it is closed."""

    card: Card
    epoch: int


class FakeNvml:
    NVMLError = NVMLError
    nvmlMemory_v2 = 0x2000028

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.init_fault: int | None = None
        self.opened = 0
        self.users = 0
        """How often it is open: it closes when all who opened it have closed it."""
        self.epoch = 0
        self.asked: Counter[str] = Counter()
        """Calls about a card, by their names as in ``Card.faults``."""
        self.random: Callable[[str, Card | None], int | None] = lambda call, card: None
        self.hang: threading.Event | None = None
        self.init_hang: threading.Event | None = None
        self.meanwhile: Callable[[Card], None] = lambda card: None
        """What happens between the look at a card's memory and the one at its processes."""

    def nvmlInit(self) -> None:
        self.asked["Init"] += 1
        if self.init_hang is not None:
            self.init_hang.wait()
        if self.init_fault is not None:
            raise NVMLError(self.init_fault)
        self.opened += 1
        self.epoch += not self.users
        self.users += 1

    def nvmlShutdown(self) -> None:
        if not self.users:
            raise NVMLError(1)
        self.users -= 1
        self.epoch += not self.users

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.00"

    def nvmlDeviceGetCount(self) -> int:
        self._fail("Count")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle:
        if not 0 <= index < len(self.cards):
            raise NVMLError(2)
        self._fail("Handle", self.cards[index])
        return Handle(self.cards[index], self.epoch)

    def nvmlDeviceGetMigMode(self, handle: Handle) -> tuple[int, int]:
        card = self._card("Mig", handle)
        if card.uuid.startswith("MIG-"):
            raise NVMLError(3)
        return (1, 1) if card.slices is not None else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int) -> Handle:
        slices = self._card("Mig", handle).slices or []
        if index >= len(slices):
            raise NVMLError(6)
        return Handle(slices[index], self.epoch)

    def nvmlDeviceGetUUID(self, handle: Handle) -> str:
        return self._card("UUID", handle).uuid

    def nvmlDeviceGetName(self, handle: Handle) -> str:
        return self._card("Name", handle).name

    def nvmlDeviceGetPciInfo(self, handle: Handle) -> SimpleNamespace:
        return SimpleNamespace(busId=self._card("Pci", handle).pci.encode())

    def nvmlDeviceGetNumGpuCores(self, handle: Handle) -> int:
        return self._card("Cores", handle).cores

    def nvmlDeviceGetCudaComputeCapability(self, handle: Handle) -> tuple[int, int]:
        return self._card("Compute capability", handle).compute

    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int | None = None) -> SimpleNamespace:
        card = self._card("Memory" if version is None else "Memory_v2", handle)
        if self.hang is not None:
            self.hang.wait()
        if card.fault is not None:
            raise NVMLError(card.fault)
        assert version in (None, self.nvmlMemory_v2)
        used = card.other + sum(n or 0 for n in (card.processes or {}).values())
        self.meanwhile(card)
        if version is None:  # what the driver reserves counts as used
            return SimpleNamespace(total=card.total, used=used + card.reserved, free=card.total - card.reserved - used)
        return SimpleNamespace(
            total=card.total, reserved=card.reserved, used=used, free=card.total - card.reserved - used
        )

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[SimpleNamespace]:
        card = self._card("Compute", handle)
        if card.processes is None:
            raise NVMLError(3)
        return _listed(card.processes)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Handle) -> list[SimpleNamespace]:
        return _listed(self._card("Graphics", handle).drawing)

    def _card(self, call: str, handle: Handle) -> Card:
        if handle.epoch != self.epoch:
            raise NVMLError(1)  # of an NVML that was closed since
        self._fail(call, handle.card)
        return handle.card

    def _fail(self, call: str, card: Card | None = None) -> None:
        """Fail as this call is to; ``random`` may have any call fail."""
        self.asked[call] += 1
        if card is not None and call in card.hangs:
            card.hangs[call].wait()
        code = card.faults.get(call) if card is not None else None
        if code is None:
            code = self.random(call, card)
        if code is not None:
            raise NVMLError(code)


def _listed(processes: dict[int, int | None]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=n) for pid, n in processes.items()]
