"""Faults of NVML, each where it belongs: cards that are lost, swapped, late, old, forbidden, or share RAM."""

from __future__ import annotations

from pathlib import Path

import pytest
from devices.fake_nvml import Card, FakeNvml
from devices.machines import bound, of_a_container, on_the_bus
from hypothesis import given, settings
from hypothesis import strategies as st

from lmxd.devices.measurement import Measurement, ProcessUse
from lmxd.devices.nvml import NvmlProbe
from lmxd.devices.roots import Roots

GIB = 2**30
KIB = 1024


class Machine:
    """A clock, and the kernel's files."""

    def __init__(self, directory: Path, *cards: Card) -> None:
        self.now = 0.0
        self.nvml = FakeNvml(*cards)
        self.roots = Roots(sys=directory / "sys", proc=directory / "proc")

    def probe(self, *refs: int | str) -> NvmlProbe:
        return NvmlProbe(self.nvml, refs or None, lambda: self.now, self.roots)

    def looks(self, probe: NvmlProbe, times: int = 108, period: float = 1 / 9) -> list[list[Measurement]]:
        """As many looks as 12 s have."""
        found = []
        for _ in range(times):
            found.append(probe.measure(set()))
            self.now += period
        return found


def two(directory: Path) -> Machine:
    return Machine(
        directory, Card("GPU-a", 24 * GIB, pci="00000000:01:00.0"), Card("GPU-b", 80 * GIB, pci="00000000:41:00.0")
    )


def available(found: list[Measurement]) -> list[str]:
    return [m.id for m in found if m.unavailable is None]


@pytest.mark.parametrize("call", ["Handle", "UUID", "Memory_v2", "Mig", "all"])
@pytest.mark.parametrize("code", [1, 9, 15, 16, 18, 999])
def test_a_card_that_is_lost_leaves_the_other_as_available_as_before(tmp_path: Path, call: str, code: int) -> None:
    machine = two(tmp_path)
    probe = machine.probe()
    probe.measure(set())
    calls = ("Handle", "UUID", "Memory_v2", "Compute", "Pci", "Mig", "Name") if call == "all" else (call,)
    machine.nvml.cards[1].faults = dict.fromkeys(calls, code)
    assert all("GPU-a" in available(found) for found in machine.looks(probe))
    assert machine.nvml.opened == 1
    machine.nvml.cards[1].faults = {}
    machine.now += 60
    assert available(probe.measure(set())) == ["GPU-a", "GPU-b"]


def test_a_card_that_was_lost_at_the_start_is_one_device_of_two(tmp_path: Path) -> None:
    machine = two(tmp_path)
    for address in ("0000:01:00.0", "0000:41:00.0"):
        on_the_bus(machine.roots.sys, address)
    machine.nvml.cards[1].faults = {"Handle": 999}
    probe = machine.probe()
    for good, lost in machine.looks(probe):
        assert (good.id, good.unavailable) == ("GPU-a", None)
        assert (lost.id, lost.ref, lost.pci) == ("0000:41:00.0", "1", "0000:41:00.0")
        assert lost.unavailable == "NVML: Unknown Error"
        assert "dmesg" in lost.remedy
    machine.nvml.cards[1].faults = {}
    machine.now += 60
    assert [(m.id, m.ref) for m in probe.measure(set())] == [("GPU-a", "0"), ("GPU-b", "1")]


@pytest.mark.parametrize("refs", [(), (1,), ("GPU-b",), ("41:00.0",)])
def test_a_card_that_moves_to_the_index_of_another_stays_itself(tmp_path: Path, refs: tuple[int | str, ...]) -> None:
    machine = two(tmp_path)
    egpu = Card("GPU-egpu", 12 * GIB, pci="00000000:05:00.0")
    machine.nvml.cards = [egpu, machine.nvml.cards[1]]
    probe = machine.probe(*refs)
    probe.measure(set())
    machine.nvml.cards.remove(egpu)
    machine.nvml.epoch += 1  # as after a driver that was loaded again: all handles are stale
    machine.now += 11
    for found in machine.looks(probe):
        (mine,) = [m for m in found if m.id == "GPU-b"]
        assert mine.unavailable is None or machine.now < 15
        assert mine.capacity == 80 * GIB
    (mine,) = [m for m in probe.measure(set()) if m.unavailable is None]
    assert mine.id == "GPU-b"


def test_an_index_that_means_another_card_by_now_is_told(tmp_path: Path) -> None:
    machine = two(tmp_path)
    probe = machine.probe(0)
    probe.measure(set())
    machine.nvml.cards.pop(0)
    machine.nvml.epoch += 1
    machine.now += 30
    probe.measure(set())
    machine.now += 30
    (found,) = probe.measure(set())
    assert found.id == "GPU-a"
    assert found.unavailable, "never the other card's figures"
    assert "GPU-a" in found.hints[0]
    assert "GPU-b" in found.hints[0]


def test_a_card_that_comes_is_taken_in_and_one_that_goes_is_missed(tmp_path: Path) -> None:
    machine = two(tmp_path)
    late = machine.nvml.cards.pop()
    probe = machine.probe()
    assert available(probe.measure(set())) == ["GPU-a"]
    machine.nvml.cards.append(late)
    machine.now += 11
    assert available(probe.measure(set())) == ["GPU-a", "GPU-b"]
    assert machine.nvml.opened == 1
    machine.nvml.cards.remove(late)
    late.fault = 15
    found = machine.looks(probe)[-1]
    assert available(found) == ["GPU-a"]
    assert [m.id for m in found] == ["GPU-a", "GPU-b"]


def test_a_slice_that_is_made_comes_and_one_that_is_taken_away_goes(tmp_path: Path) -> None:
    machine = two(tmp_path)
    whole = machine.nvml.cards[1]
    whole.slices = [Card("MIG-1", 20 * GIB)]
    probe = machine.probe()
    assert available(probe.measure(set())) == ["GPU-a", "MIG-1"]
    whole.slices.append(Card("MIG-2", 10 * GIB))
    machine.now += 11
    assert available(probe.measure(set())) == ["GPU-a", "MIG-1", "MIG-2"]
    whole.slices.pop(0)
    machine.now += 11
    assert [m.id for m in probe.measure(set())] == ["GPU-a", "MIG-2"]
    whole.faults = {"Handle": 15}
    whole.slices[0].fault = 15
    machine.now += 11
    assert [(m.id, m.unavailable is None) for m in probe.measure(set())] == [("GPU-a", True), ("MIG-2", False)]


@pytest.mark.parametrize("code", [9, 12, 4, 18])
@pytest.mark.parametrize("refs", [(), (0,), ("GPU-a",)])
def test_a_driver_that_comes_late_is_a_paused_gpu_until_then(
    tmp_path: Path, code: int, refs: tuple[int | str, ...]
) -> None:
    machine = Machine(tmp_path, Card("GPU-a", 24 * GIB))
    on_the_bus(machine.roots.sys, "0000:01:00.0", driver="")
    machine.nvml.init_fault = code
    probe = machine.probe(*refs)
    for (found,) in machine.looks(probe):
        assert found.unavailable
        assert found.remedy
    machine.nvml.init_fault = None
    bound(machine.roots.sys / "bus/pci/devices/0000:01:00.0", "nvidia")
    machine.now += 1
    assert available(probe.measure(set())) == ["GPU-a"], "the bus tells it, whatever the pause"


@pytest.mark.parametrize(
    ("code", "driver", "remedy"),
    [
        (9, "", "modprobe nvidia"),
        (9, "nvidia", "nvidia-modprobe"),
        (9, "nouveau", "nouveau"),
        (12, "nvidia", "libnvidia-ml"),
        (18, "nvidia", "reload the nvidia modules"),
        (4, "nvidia", "/dev/nvidia"),
        (17, "nvidia", "DeviceAllow"),
    ],
)
def test_each_fault_that_lasts_has_its_own_remedy(tmp_path: Path, code: int, driver: str, remedy: str) -> None:
    machine = two(tmp_path)
    on_the_bus(machine.roots.sys, "0000:01:00.0", driver=driver)
    machine.nvml.init_fault = code
    (found,) = machine.probe().measure(set())
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("vendor", "kind", "driver"),
    [("0x10de", "0x030000", "vfio-pci"), ("0x10de", "0x040300", ""), ("0x8086", "0x030000", "i915")],
)
def test_what_is_no_card_of_ours_is_none(tmp_path: Path, vendor: str, kind: str, driver: str) -> None:
    machine = Machine(tmp_path)
    on_the_bus(machine.roots.sys, "0000:01:00.0", vendor, kind, driver)
    machine.nvml.init_fault = 9
    assert machine.probe().measure(set()) == []


@pytest.mark.parametrize("code", [13, 25, 3])
def test_an_old_driver_tells_memory_in_the_older_form(tmp_path: Path, code: int) -> None:
    machine = Machine(tmp_path, Card("GPU-a", 24 * GIB, reserved=GIB, other=2 * GIB, faults={"Memory_v2": code}))
    (found,) = machine.probe().measure(set())
    assert (found.capacity, found.used, found.unavailable) == (24 * GIB, 3 * GIB, None)


@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_processes_that_may_not_be_listed_are_not_told_apart_and_a_hint_says_so(tmp_path: Path, code: int) -> None:
    machine = two(tmp_path)
    machine.nvml.cards[0].faults = {"Compute": code}
    a, b = machine.probe().measure(set())
    assert (a.unavailable, a.processes) == (None, None)
    assert a.hints
    assert (b.processes, b.hints) == ({}, ())


def test_memory_that_is_the_machines_makes_a_gpu_of_the_pool(tmp_path: Path) -> None:
    """As on GB10: NVML tells no memory, but the processes."""
    proc = of_a_container(tmp_path, 127600748 * KIB)
    gb10 = Card("GPU-gb10", 0, processes={41: 25000 * 2**20}, drawing={21: 43 * 2**20, 22: 18 * 2**20})
    gb10.faults = {"Memory": 3, "Memory_v2": 3}
    machine = Machine(tmp_path, gb10)
    machine.roots = Roots(sys=tmp_path / "sys", proc=proc)
    for (found,) in machine.looks(machine.probe()):
        assert (found.unavailable, found.pool, found.own) == (None, "memory", 0)
        assert (found.capacity, found.used) == (127600748 * KIB, 25061 * 2**20)
    assert machine.nvml.opened == 1
    gb10.faults |= {"Compute": 3, "Graphics": 3}
    (jetson,) = machine.probe().measure(set())
    assert (jetson.unavailable, jetson.pool, jetson.processes, jetson.lower_bound) == (None, "memory", None, True)


def test_memory_of_nothing_is_the_machines(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Card("GPU-a", 0))
    assert machine.probe().measure(set())[0].pool == "memory"


def test_what_a_card_says_of_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Card("GPU-a", GIB, cores=16896, compute=(9, 0), pci="0000000F:01:00.0"))
    (found,) = machine.probe().measure(set())
    assert (found.vendor, found.pci, found.cores, found.compute) == ("nvidia", "000f:01:00.0", 16896, (9, 0))
    machine.nvml.cards[0].faults = dict.fromkeys(("Cores", "Compute capability", "Name", "Pci", "Mig"), 13)
    (found,) = machine.probe().measure(set())
    assert (found.id, found.unavailable, found.cores, found.compute) == ("GPU-a", None, 0, None)


def test_pids_are_ours_if_the_kernel_says_what_others_call_them(tmp_path: Path) -> None:
    proc = of_a_container(tmp_path)
    (proc / "57").mkdir()
    (proc / "57/status").write_text("Name:\tx\nNSpid:\t28290\t57\n")
    machine = Machine(tmp_path, Card("GPU-a", 24 * GIB, processes={28290: 9 * GIB, 28291: GIB}))
    machine.roots = Roots(sys=tmp_path / "sys", proc=proc)
    (found,) = machine.probe().measure({57, 58})
    assert found.processes is not None
    assert found.processes[57] == ProcessUse(total=9 * GIB, visible=9 * GIB)
    assert found.partial, "28291 may be 58"


CODES = st.sampled_from([None] * 6 + [1, 2, 3, 4, 6, 9, 13, 15, 16, 18, 25, 999])
SIZES = {"GPU-a": 24, "GPU-b": 80, "GPU-c": 12}


@given(st.data(), st.integers(2, 3), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_faults_at_random_moments_are_those_of_their_card(data: st.DataObject, count: int, well: int) -> None:
    """All calls about other cards fail as they like; the healthy one is there with its figures at each look."""
    machine = Machine(Path("/nowhere"), *(Card(uuid, gib * GIB) for uuid, gib in list(SIZES.items())[:count]))
    healthy = machine.nvml.cards[well % count]
    probe = machine.probe()

    def fail(call: str, card: Card | None) -> int | None:
        return None if card is None or card is healthy else data.draw(CODES)

    machine.nvml.random = fail
    for _ in range(data.draw(st.integers(1, 8))):
        found = probe.measure(set())
        figures = {m.id: m.capacity for m in found if m.unavailable is None}
        assert len({m.id for m in found}) == len(found)
        sizes = [size for size in figures.values() if size]
        assert len(set(sizes)) == len(sizes), "no card is offered under two names"
        assert figures[healthy.uuid] == healthy.total
        assert all(SIZES[uuid] * GIB == size for uuid, size in figures.items() if size and uuid in SIZES)
        others = [card for card in machine.nvml.cards if card is not healthy]
        goes: bool = data.draw(st.booleans())
        if others and goes:
            machine.nvml.cards.remove(others[0])  # it is taken out, and the others move up
        machine.now += data.draw(st.sampled_from([0.1, 1.0, 11.0]))
    assert machine.nvml.opened == 1


@pytest.mark.parametrize("code", [3, 13])
def test_a_card_that_once_does_not_tell_its_uuid_is_no_second_card(tmp_path: Path, code: int) -> None:
    """Else its bytes would be promised under two names."""
    machine = two(tmp_path)
    probe = machine.probe()
    probe.measure(set())
    machine.nvml.cards[1].faults = {"UUID": code}
    assert {tuple(m.id for m in found) for found in machine.looks(probe)} == {("GPU-a", "GPU-b")}
    machine.nvml.cards[1].faults = {}
    assert [m.id for m in machine.probe().measure(set())] == ["GPU-a", "GPU-b"]
    other = machine.probe()
    machine.nvml.cards[0].faults = machine.nvml.cards[1].faults = {"UUID": code}
    assert [m.id for m in other.measure(set())] == ["0", "1"]
    machine.nvml.cards[0].faults = machine.nvml.cards[1].faults = {}
    for found in machine.looks(other):
        assert len({m.capacity for m in found if m.unavailable is None}) == len(available(found)), "one of each"
    assert available(found) == ["GPU-a", "GPU-b"]


@pytest.mark.parametrize("refs", [(), (1,), ("GPU-b",)])
def test_a_card_that_is_to_be_divided_and_has_no_slice_says_so(tmp_path: Path, refs: tuple[int | str, ...]) -> None:
    """CUDA finds nothing on it, however much memory it shows."""
    machine = two(tmp_path)
    whole = machine.nvml.cards[1]
    whole.slices = []
    probe = machine.probe(*refs)
    for found in machine.looks(probe):
        assert found[-1].id == "GPU-b"
        assert found[-1].unavailable == "MIG divides it, and there is no slice"
        assert "nvidia-smi mig -cgi" in found[-1].remedy
    whole.slices = [Card("MIG-1", 20 * GIB)]
    machine.now += 11
    assert available(probe.measure(set()))[-1] == "MIG-1"
    whole.slices = []
    machine.now += 11
    assert [m.id for m in probe.measure(set())][-1] == "GPU-b"
    whole.slices = None
    machine.now += 61
    assert available(probe.measure(set()))[-1] == "GPU-b"


@pytest.mark.parametrize("code", [2, 4, 999])
def test_a_slice_that_once_does_not_answer_is_not_taken_for_one_that_was_taken_away(tmp_path: Path, code: int) -> None:
    machine = two(tmp_path)
    machine.nvml.cards[1].slices = slices = [Card("MIG-1", 20 * GIB), Card("MIG-2", 10 * GIB)]
    probe = machine.probe()
    probe.measure(set())
    slices[1].faults = {"UUID": code}
    machine.now += 11
    for found in machine.looks(probe):
        assert [m.id for m in found] == ["GPU-a", "MIG-1", "MIG-2"]
        assert {"GPU-a", "MIG-1"} <= set(available(found))


def test_what_a_card_did_not_say_of_itself_at_first_is_asked_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Card("GPU-a", GIB, name="NVIDIA Fine", cores=16896, faults={"Name": 999, "Cores": 999}))
    probe = machine.probe()
    assert probe.measure(set())[0].name == "NVIDIA GPU"
    machine.nvml.cards[0].faults = {"Compute capability": 999}
    (found,) = probe.measure(set())
    assert (found.name, found.cores, found.compute) == ("NVIDIA Fine", 16896, (9, 0))
    machine.looks(probe)
    asked = machine.nvml.asked["Name"]
    machine.looks(probe)
    assert machine.nvml.asked["Name"] == asked, "not at every look"


def test_a_number_of_the_host_that_is_one_of_ours_here_is_not_ours(tmp_path: Path) -> None:
    proc = of_a_container(tmp_path)
    (proc / "57").mkdir()
    machine = Machine(tmp_path, Card("GPU-a", 24 * GIB, processes={57: 9 * GIB, 28291: GIB}))
    machine.roots = Roots(sys=tmp_path / "sys", proc=proc)
    (found,) = machine.probe().measure({57})
    assert found.processes == {28291: ProcessUse(total=GIB, visible=GIB)}
    assert found.partial
