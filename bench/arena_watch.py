"""What bench/arena.py sees beside the answers: bytes of the card over time, and which processes had some."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

GIB = 2**30
EVERY = 0.1
BALLAST = Path(__file__).parent.parent / "tests/gpu/ballast.py"


class Memory(Protocol):
    """A card or RAM."""

    name: str
    capacity: int

    def used(self) -> int: ...

    def engines(self) -> set[int]:
        """The pids that hold some of it."""
        ...


class Card:
    """An NVIDIA GPU, by NVML."""

    def __init__(self, index: int = 0) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.name = str(pynvml.nvmlDeviceGetName(self._handle))
        memory = self._memory()
        self.capacity = int(memory.total - memory.reserved)

    def _memory(self) -> Any:  # NVML has no types
        return self._nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._nvml.nvmlMemory_v2)

    def used(self) -> int:
        return int(self._memory().used)

    def engines(self) -> set[int]:
        return {p.pid for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)}


class Ram:
    """Processes of llama-server that load a model of this arena: those whose command line names its directory."""

    name = "RAM"

    def __init__(self, capacity: int, models: Path) -> None:
        self.capacity, self._models = capacity, str(models).encode() + b"/"

    def used(self) -> int:
        return sum(self._resident(pid) for pid in self.engines())

    def engines(self) -> set[int]:
        found = set()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            loads = any(word.startswith(self._models) and word.endswith(b".gguf") for word in words)
            if loads and b"llama-server" in words[0]:
                found.add(int(path.parent.name))
        return found

    def _resident(self, pid: int) -> int:
        try:
            return 4096 * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            return 0


class Watch(threading.Thread):
    """Looks at a memory ten times a second until ``over``."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.byte_seconds = 0.0
        self.pids: set[int] = set()
        self._memory, self._base, self._before = memory, memory.used(), memory.engines()

    def run(self) -> None:
        last = time.monotonic()
        while not self.over.wait(EVERY):
            now = time.monotonic()
            self.byte_seconds += (self._memory.used() - self._base) * (now - last)
            self.pids |= self._memory.engines()
            last = now

    @property
    def loads(self) -> int:
        return len(self.pids - self._before)


def settle(memory: Memory, least: int) -> None:
    """Wait until what ended is gone: to ``least`` bytes and a little more. What stays for 20 s spoils the figures."""
    deadline = time.monotonic() + 20
    while (used := memory.used()) > least + GIB:
        if time.monotonic() > deadline:
            raise SystemExit(f"{memory.name}: {(used - least) / GIB:.1f} GiB are somebody else's: end that first")
        time.sleep(0.1)


@contextmanager
def foreign(gib: float, index: int = 0) -> Iterator[None]:
    """Somebody else's process that holds so much of the card."""
    if not gib:
        yield
        return
    its_card = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(index)}
    words = [sys.executable, str(BALLAST), str(gib)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | its_card)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "held":
            raise SystemExit(f"no {gib} GiB of foreign memory could be taken")
        yield
    finally:
        process.kill()
        process.wait()
