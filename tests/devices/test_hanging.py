"""A call into a driver that does not come back: its own device is unavailable, the others are measured as before."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devices.fake_nvml import Card, FakeNvml
from devices.machines import on_the_bus
from drm_trees import GIB, Drivers, Machine, fdinfo
from waiting import wait_until

from lmxd.devices.driver_calls import DriverCalls
from lmxd.devices.drm.ioctls import kernel_ioctl
from lmxd.devices.measurement import HOST, MEMORY, Measurement, Probe
from lmxd.devices.probes import open_probes
from lmxd.devices.roots import Roots

BAD, GOOD, ARC = "0000:03:00.0", "0000:0a:00.0", "0000:0b:00.0"
CALLS = ["Handle", "Pci", "UUID", "Mig", "Memory_v2", "Compute", "Graphics", "Name"]


class Looking:
    """The probes of a machine, with drivers that have one second, and threads that can be counted."""

    def __init__(self, nvml: FakeNvml, roots: Roots, *refs: int | str, drivers: Drivers | None = None) -> None:
        self.calls = DriverCalls(deadline=1.0)
        self._arguments = (refs or None, nvml, roots, drivers or kernel_ioctl, self.calls)
        self._others = set(threading.enumerate())
        self.probe: Probe
        self.reload()

    def reload(self) -> None:
        (self.probe,) = open_probes(*self._arguments)

    def look(self, *pids: int) -> dict[str, Measurement]:
        return {m.id: m for m in self.probe.measure(set(pids))}

    def unavailable(self) -> dict[str, str | None]:
        return {name: m.unavailable for name, m in self.look().items()}

    def threads(self) -> int:
        """How many are in a driver."""
        return len(set(threading.enumerate()) - self._others)


@pytest.fixture
def event() -> Iterator[threading.Event]:
    """The event that a fake hangs by; set at the end, so that no thread is left."""
    made = threading.Event()
    yield made
    made.set()


def two_cards(directory: Path) -> tuple[FakeNvml, Roots]:
    for address in ("0000:01:00.0", "0000:02:00.0"):
        on_the_bus(directory / "sys", address)
    cards = (Card(f"GPU-{x}", 24 * GIB, pci=f"00000000:0{n}:00.0") for n, x in ((1, "a"), (2, "b")))
    return FakeNvml(*cards), Roots(sys=directory / "sys", proc=directory / "proc")


@pytest.mark.parametrize("call", CALLS)
def test_a_card_of_nvidias_that_hangs_leaves_the_other_alone(tmp_path: Path, event: threading.Event, call: str) -> None:
    nvml, roots = two_cards(tmp_path)
    looking = Looking(nvml, roots)
    assert looking.unavailable() == {"GPU-a": None, "GPU-b": None} or call == "Name"
    if call in ("Handle", "Pci", "Mig", "Name"):  # asked only when NVML lists its cards
        nvml, roots = two_cards(tmp_path)
        looking = Looking(nvml, roots)
    nvml.cards[1].hangs[call] = event
    for used in (1, 2, 3):
        nvml.cards[0].other = used * GIB
        found = looking.look()
        (bad,) = found.keys() - {"GPU-a"}
        assert (found["GPU-a"].used, found["GPU-a"].unavailable) == (used * GIB, None)
        assert found[bad].unavailable == "NVML: the driver has not answered for 1 s"
        assert "dmesg (Xid)" in found[bad].remedy
        assert looking.threads() == 1
    nvml.cards[1].other = 7 * GIB
    event.set()
    wait_until(lambda: looking.look()["GPU-b"].unavailable is None if "GPU-b" in looking.look() else False)
    assert looking.look()["GPU-b"].used == 7 * GIB
    assert nvml.opened == 1


def test_the_figure_of_a_call_that_came_late_is_not_taken(tmp_path: Path, event: threading.Event) -> None:
    nvml, roots = two_cards(tmp_path)
    looking = Looking(nvml, roots)
    looking.look()
    read = threading.Event()

    def meanwhile(card: Card) -> None:
        if card.uuid == "GPU-b" and not event.is_set():
            read.set()
            event.wait()

    nvml.meanwhile = meanwhile  # the figure has been read, and does not come back
    assert looking.look()["GPU-b"].unavailable is not None
    assert read.is_set()
    nvml.cards[1].other = 5 * GIB
    event.set()
    wait_until(lambda: looking.threads() == 0)
    assert looking.look()["GPU-b"].used == 5 * GIB


def test_nvml_that_hangs_as_a_whole_makes_its_cards_unavailable_and_no_other(
    tmp_path: Path, event: threading.Event
) -> None:
    machine = Machine(tmp_path)
    for address in ("0000:01:00.0", "0000:02:00.0"):
        on_the_bus(machine.roots.sys, address)
    machine.amd(1, GOOD, vram_total=16 * GIB, vram_used=GIB, gtt_total=8 * GIB, gtt_used=0)
    nvml = FakeNvml(Card("GPU-a", 24 * GIB), Card("GPU-b", 24 * GIB, pci="00000000:02:00.0"))
    nvml.init_hang = event
    looking = Looking(nvml, machine.roots)
    why = "NVML: the driver has not answered for 1 s"
    for _ in range(3):
        assert looking.unavailable() == {"0000:01:00.0": why, "0000:02:00.0": why, GOOD: None}
        assert looking.threads() == 1
    nvml.init_hang = None
    event.set()
    wait_until(lambda: looking.unavailable() == {"GPU-a": None, "GPU-b": None, GOOD: None})
    assert nvml.users == 1
    looking.probe.close()
    assert nvml.users == 0


def test_nvml_is_not_closed_under_a_call_that_hangs(tmp_path: Path, event: threading.Event) -> None:
    """All cards are unavailable, or one was taken out: what else opens NVML anew waits for the call to come back."""
    nvml, roots = two_cards(tmp_path)
    looking = Looking(nvml, roots)
    looking.look()
    nvml.cards[0].fault = 15
    nvml.cards[1].hangs["Memory_v2"] = event
    for _ in range(3):
        assert None not in looking.unavailable().values()
    on_the_bus(roots.sys, "0000:04:00.0")
    looking.look()
    looking.probe.close()
    assert (nvml.opened, nvml.users) == (1, 1)


def test_a_gpu_that_hangs_leaves_the_pool_that_it_shares_measured(tmp_path: Path, event: threading.Event) -> None:
    machine = Machine(tmp_path, memory=128 * GIB)
    on_the_bus(machine.roots.sys, "0000:01:00.0")
    gb10 = Card("GPU-a", 0, name="NVIDIA GB10", faults={"Memory": 3, "Memory_v2": 3})
    looking = Looking(FakeNvml(gb10), machine.roots)
    assert looking.unavailable() == {"GPU-a": None, MEMORY: None}
    gb10.hangs["Compute"] = event
    machine.write("proc/meminfo", f"MemTotal: {2**27} kB\nMemAvailable: {2**26} kB\n")
    found = looking.look()
    assert (found["GPU-a"].unavailable is None, found["GPU-a"].pool) == (False, MEMORY)
    assert (found[MEMORY].unavailable, found[MEMORY].used) == (None, 64 * GIB)


def test_no_reload_begins_another_call_to_a_card_that_hangs(tmp_path: Path, event: threading.Event) -> None:
    nvml, roots = two_cards(tmp_path)
    looking = Looking(nvml, roots)
    looking.look()
    nvml.cards[1].hangs |= {"Memory_v2": event, "Handle": event}
    for _ in range(4):
        assert looking.look()["GPU-a"].unavailable is None
        assert looking.threads() == 1
        looking.probe.close()
        looking.reload()


def test_a_slow_driver_is_waited_for_once(tmp_path: Path) -> None:
    """It answers each call, always too late: it stays unavailable, and the look that finds this out is the only one
    that it holds up for the whole deadline.
    """
    calls, given = DriverCalls(deadline=1000.0), threading.Event()
    slow = threading.Event()
    calls.deadline = 0.01
    assert calls.ask({"slow": slow.wait, "quick": lambda: 1}) == {"quick": 1}
    slow.set()
    wait_until(lambda: not calls.hanging)
    calls.deadline = 1000.0
    assert calls.ask({"slow": given.wait, "quick": lambda: 2}) == {"quick": 2}  # else it would take 1000 s
    given.set()
    wait_until(lambda: not calls.hanging)
    assert calls.ask({"slow": lambda: 3}) == {"slow": 3}


def amd_and_intel(directory: Path) -> Machine:
    """Two cards of AMD's, one of Intel's, and a process on each."""
    machine = Machine(directory)
    machine.amd(1, BAD, serial="a1", vram_total=16 * GIB, vram_used=GIB, gtt_total=8 * GIB, gtt_used=0)
    machine.amd(2, GOOD, serial="b2", vram_total=24 * GIB, vram_used=2 * GIB, gtt_total=8 * GIB, gtt_used=0)
    machine.card(3, ARC, "xe", "0xe20b", 130)
    machine.kfd(1, BAD, 16 * GIB)
    machine.kfd(2, GOOD, 24 * GIB)
    for pid, address, node in ((41, BAD, 128), (42, GOOD, 129)):
        content = fdinfo("amdgpu", address, pid, resident_vram="300 MiB")
        machine.process(pid, (f"/dev/dri/renderD{node}", content))
        machine.write(f"sys/class/kfd/kfd/proc/{pid}/vram_{1000 * (node - 127)}", 300 * 2**20)
    return machine


def hanging_file(path: Path) -> Callable[[], None]:
    """A file of which a read does not come back, until the function that is returned has been called."""
    content = path.read_text()
    path.unlink()
    os.mkfifo(path)

    def comes_back() -> None:
        other = path.with_name("again")
        other.write_text(content)
        os.rename(path, path.with_name("pipe"))
        os.rename(other, path)
        os.close(os.open(path.with_name("pipe"), os.O_RDWR | os.O_NONBLOCK))

    return comes_back


@pytest.mark.parametrize(
    "file",
    [
        "sys/class/drm/card1/device/mem_info_vram_total",
        "sys/class/drm/card1/device/mem_info_vram_used",
        "sys/class/kfd/kfd/proc/41/vram_1000",
        "proc/41/fdinfo/3",
    ],
)
def test_a_file_of_the_kernels_that_hangs_is_of_its_own_card_alone(tmp_path: Path, file: str) -> None:
    machine = amd_and_intel(tmp_path)
    drivers = Drivers({"renderD130": [(1, 12 * GIB, GIB)]})
    looking = Looking(FakeNvml(), machine.roots, drivers=drivers)
    all_well = {"GPU-00000000000000a1": None, "GPU-00000000000000b2": None, ARC: None}
    assert looking.unavailable() == all_well
    comes_back = hanging_file(tmp_path / file)
    try:
        for used in (3, 4):
            machine.write("sys/class/drm/card2/device/mem_info_vram_used", used * GIB)
            found = looking.look(41, 42)
            assert found["GPU-00000000000000a1"].unavailable == "the driver has not answered for 1 s"
            assert "dmesg" in found["GPU-00000000000000a1"].remedy
            assert [m.unavailable for m in found.values()].count(None) == 2
            assert found["GPU-00000000000000b2"].used == used * GIB
            assert set(found["GPU-00000000000000b2"].processes or ()) == {42}
            assert looking.threads() == 1
    finally:
        comes_back()
    machine.write("sys/class/drm/card1/device/mem_info_vram_used", 9 * GIB)
    wait_until(lambda: looking.unavailable() == all_well)
    found = looking.look(41, 42)
    assert found["GPU-00000000000000a1"].used == 9 * GIB
    assert set(found["GPU-00000000000000a1"].processes or ()) == {41}


def test_an_ioctl_that_hangs_is_of_its_own_card_alone_also_where_cards_are_numbered(
    tmp_path: Path, event: threading.Event
) -> None:
    machine = amd_and_intel(tmp_path)

    class Hanging(Drivers):
        def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
            event.wait()
            return super().__call__(descriptor, request, argument)

    drivers = Hanging({"renderD130": [(1, 12 * GIB, GIB)]})
    looking = Looking(FakeNvml(), machine.roots, 1, 2, drivers=drivers)  # which card is number 2 is asked of them all
    for _ in range(2):
        assert looking.unavailable() == {
            "GPU-00000000000000b2": None,
            ARC: "the driver has not answered for 1 s",
        }
        assert looking.threads() == 1
        looking.reload()
    event.set()
    wait_until(lambda: looking.unavailable() == {"GPU-00000000000000b2": None, ARC: None})


@pytest.mark.parametrize("file", ["sys/class/drm/card1/device/uevent", "sys/class/kfd/kfd/topology/nodes/1/properties"])
def test_while_the_kernel_does_not_list_its_cards_those_known_are_measured(tmp_path: Path, file: str) -> None:
    machine = amd_and_intel(tmp_path)
    drivers = Drivers({"renderD130": [(1, 12 * GIB, GIB)]})
    looking = Looking(FakeNvml(), machine.roots, drivers=drivers)
    before = looking.look(41, 42)
    comes_back = hanging_file(tmp_path / file)
    try:
        assert looking.look(41, 42) == before
        at_the_start = Looking(FakeNvml(), machine.roots, drivers=drivers).unavailable()
        assert HOST not in at_the_start
        assert at_the_start.keys() == before.keys() or set(at_the_start.values()) == {
            "the driver has not answered for 1 s"
        }
    finally:
        comes_back()
    assert looking.look(41, 42) == before


def test_ram_that_hangs_leaves_the_gpus_alone(tmp_path: Path) -> None:
    machine = amd_and_intel(tmp_path)
    looking = Looking(FakeNvml(), machine.roots, HOST, 0)
    assert set(looking.unavailable().values()) == {None}
    comes_back = hanging_file(tmp_path / "proc/meminfo")
    try:
        found = looking.unavailable()
        assert found.pop(HOST) == "/proc/meminfo has not answered for 1 s"
        assert list(found.values()) == [None]
    finally:
        comes_back()
    wait_until(lambda: set(looking.unavailable().values()) == {None})
