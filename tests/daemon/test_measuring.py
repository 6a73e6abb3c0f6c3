"""Looks at the devices: whose bytes they show, in which order they count, and what a reload leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from devices.fake_nvml import Card, FakeNvml
from waiting import until

from lmxd.catalog.catalog import Catalog
from lmxd.config.schema import Config
from lmxd.core.books.state import State
from lmxd.core.events import Event, MemoryMeasured
from lmxd.core.words import DeviceReading, InstanceId, Taken
from lmxd.daemon.measuring import Measuring
from lmxd.daemon.present import Present
from lmxd.devices.probes import open_probes
from lmxd.devices.roots import Roots

GIB = 2**30


class Looks:
    """Looks at fake cards; ``processes`` are those of the instances, and may change while a look goes on."""

    def __init__(self, directory: Path, nvml: FakeNvml) -> None:
        self.nvml = nvml
        self.roots = Roots(sys=directory / "sys")
        self.processes: dict[InstanceId, set[int]] = {}
        self.readings: list[DeviceReading] = []
        present = Present(Catalog(Config()))
        self.measuring = Measuring(State(), present, self._pids, self._report, self._seen)
        self.watch()

    def watch(self) -> None:
        """As at the start, and at each reload."""
        self.measuring.watch(open_probes(None, self.nvml, self.roots))

    async def _pids(self) -> Mapping[InstanceId, set[int]]:
        return dict(self.processes)

    def _report(self, event: Event) -> None:
        assert isinstance(event, MemoryMeasured)
        self.readings += event.readings

    async def _seen(self, begun: float, readings: Sequence[DeviceReading], changed: bool) -> None:
        pass


async def test_who_begins_while_a_look_goes_on_is_no_stranger(tmp_path: Path) -> None:
    nvml = FakeNvml(Card("GPU-a", 24 * GIB))
    looks = Looks(tmp_path, nvml)
    nvml.hang = threading.Event()
    first, second = (asyncio.create_task(looks.measuring.look()) for _ in range(2))
    await until(lambda: nvml.asked["Memory_v2"] == 1)
    looks.processes = {InstanceId("a#1"): {41}}
    nvml.cards[0].processes = {41: 5 * GIB}
    nvml.hang.set()
    await asyncio.gather(first, second)
    its_own = {"a#1": Taken(total=5 * GIB, visible=5 * GIB)}
    assert [(r.used, r.taken) for r in looks.readings] == [(5 * GIB, its_own)] * 2


async def test_a_reload_leaves_nvml_open_once(tmp_path: Path) -> None:
    """As long as anybody has it open, it keeps its faults, and its driver cannot be taken out."""
    looks = Looks(tmp_path, FakeNvml(Card("GPU-a", 24 * GIB)))
    for _ in range(3):
        await looks.measuring.look()
        looks.watch()
    await looks.measuring.look()
    await until(lambda: looks.nvml.users == 1)
    assert [r.unavailable for r in looks.readings] == [None] * 4
    looks.measuring.watcher.close()
    await until(lambda: looks.nvml.users == 0)
