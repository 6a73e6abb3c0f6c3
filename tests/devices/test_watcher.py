"""The one thread that looks, and what happens when a look does not come back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Set

from devices.fake_nvml import Card, FakeNvml
from waiting import until

from lmxd.devices.measurement import DeviceKind, Measurement
from lmxd.devices.nvml import NvmlProbe
from lmxd.devices.watcher import Watcher


def watcher(nvml: FakeNvml, deadline: float = 5.0) -> Watcher:
    return Watcher([NvmlProbe(nvml, (0,))], time.monotonic, deadline)


async def test_a_look_is_begun_after_it_was_asked_for() -> None:
    before = time.monotonic()
    look = await watcher(FakeNvml(Card("GPU-a", 100))).look(set())
    assert look.begun >= before
    assert [m.id for m in look.measurements] == ["GPU-a"]


async def test_all_looks_are_made_by_one_thread() -> None:
    threads: set[int] = set()

    class Nosy:
        def measure(self, pids: Set[int]) -> list[Measurement]:
            threads.add(threading.get_ident())
            return []

        def close(self) -> None:
            """Nothing is kept open."""

    watching = Watcher([Nosy()], time.monotonic)
    await asyncio.gather(*(watching.look(set()) for _ in range(20)))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_a_driver_that_hangs_makes_the_device_unavailable_and_recovers() -> None:
    nvml = FakeNvml(Card("GPU-a", 100))
    watching = watcher(nvml, deadline=0.05)
    await watching.look(set())
    nvml.hang = threading.Event()
    for _ in range(3):
        (found,) = (await watching.look(set())).measurements
        assert found.id == "GPU-a"
        assert found.unavailable is not None
        assert "hangs" in found.unavailable
    nvml.hang.set()

    async def recovers() -> bool:
        return (await watching.look(set())).measurements[0].unavailable is None

    await until(recovers)


async def test_a_probe_that_raises_makes_its_devices_unavailable() -> None:
    class Broken:
        calls = 0

        def measure(self, pids: Set[int]) -> list[Measurement]:
            self.calls += 1
            if self.calls == 2:
                raise ValueError("oops")
            return [Measurement(id="x", ref="x", kind=DeviceKind.GPU, name="x")]

        def close(self) -> None:
            """Nothing is kept open."""

    watching = Watcher([Broken()], time.monotonic)
    await watching.look(set())
    (found,) = (await watching.look(set())).measurements
    assert found.unavailable is not None
    assert "oops" in found.unavailable
    assert (await watching.look(set())).measurements[0].unavailable is None


async def test_a_closed_one_begins_no_look_and_keeps_nobody_waiting() -> None:
    watching = watcher(FakeNvml(Card("GPU-a", 100)), deadline=60)
    assert (await watching.look(set())).measurements[0].unavailable is None
    watching.close()
    late = await watching.look(set())
    assert [m.unavailable is not None for m in late.measurements] == [True]
