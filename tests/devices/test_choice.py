"""Which card a configured name means, on machines with cards of several makers."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from drm_trees import GIB, Drivers, Machine

from lmxd.devices.choice import AliasProbe, GpuChoice, choose
from lmxd.devices.measurement import DeviceKind, Measurement

NVIDIA, AMD, ARC, IGPU = "0000:01:00.0", "0000:03:00.0", "0000:0a:00.0", "0000:00:02.0"


def nvidia(machine: Machine, address: str) -> None:
    for name, said in (("vendor", "0x10de"), ("class", "0x030000"), ("device", "0x2684")):
        machine.write(f"sys/bus/pci/devices/{address}/{name}", said)


def workstation(tmp_path: Path) -> tuple[Machine, Drivers]:
    """Two NVIDIA cards with one of AMD's between them, an Arc and the processor's own GPU."""
    machine = Machine(tmp_path)
    nvidia(machine, NVIDIA)
    nvidia(machine, "0000:04:00.0")
    machine.amd(1, AMD, serial="a1", vram_total=16 * GIB, vram_used=0, gtt_total=8 * GIB)
    machine.card(2, ARC, "xe", "0xe20b", 130)
    machine.card(0, IGPU, "i915", "0xa780", 128)
    return machine, Drivers({"renderD130": [(1, 12 * GIB, GIB)], "renderD128": [(0, 32 * GIB, 0)]})


def test_numbers_go_by_address_and_processors_come_last(tmp_path: Path) -> None:
    machine, drivers = workstation(tmp_path)
    assert choose(range(6), machine.roots, drivers) == GpuChoice(
        nvidia={"0": 0, "2": "0000:04:00.0", "5": 5}, drm={"1": "GPU-00000000000000a1", "3": ARC, "4": IGPU}
    )


def test_names_are_known_by_their_form_and_place(tmp_path: Path) -> None:
    machine, drivers = workstation(tmp_path)
    uuid = "GPU-8d2a7f8c-1b2c-3d4e-5f60-718293a4b5c6"
    refs = [uuid, "GPU-00000000000000a1", "03:00.0", "0000:0A:00.0", NVIDIA, "GPU-00000000000000ff"]
    chosen = choose(refs, machine.roots, drivers)
    assert chosen.nvidia == {uuid: uuid, NVIDIA: NVIDIA}
    assert chosen.drm == {
        "GPU-00000000000000a1": "GPU-00000000000000a1",
        "03:00.0": "GPU-00000000000000a1",
        "0000:0A:00.0": ARC,
        "GPU-00000000000000ff": "GPU-00000000000000ff",
    }


def test_without_other_makers_nvml_is_asked(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    nvidia(machine, NVIDIA)
    assert choose([0, 1, "x"], machine.roots) == GpuChoice(nvidia={"0": 0, "1": 1, "x": "x"}, drm={})


def test_a_number_beyond_the_last_is_asked_of_those_that_there_are(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(1, AMD, vram_total=16 * GIB, vram_used=0)
    assert choose([0, 1], machine.roots) == GpuChoice(nvidia={}, drm={"0": AMD, "1": "1"})


def test_a_device_goes_by_its_configured_name() -> None:
    class Fixed:
        def measure(self, pids: Set[int]) -> list[Measurement]:
            return [Measurement(id=ref, ref=ref, kind=DeviceKind.GPU, name="x") for ref in (NVIDIA, AMD)]

        def close(self) -> None:
            """Nothing is kept open."""

    assert [m.ref for m in AliasProbe(Fixed(), {NVIDIA: "2"}).measure(set())] == ["2", AMD]
