"""Which devices count on a machine: cards, else processors' GPUs, else RAM."""

from __future__ import annotations

import shutil
from pathlib import Path

from devices.fake_nvml import Card, FakeNvml
from devices.machines import on_the_bus
from drm_trees import GIB, Drivers, Machine

from lmxd.devices.measurement import HOST, MEMORY, DeviceKind, Measurement, Probe
from lmxd.devices.probes import open_probes

AMD, IGPU = "0000:03:00.0", "0000:00:02.0"
NO_LIBRARY = 12
DRIVERS = Drivers({"renderD128": [(0, 32 * GIB, 0)]})


def without_nvml() -> FakeNvml:
    nvml = FakeNvml()
    nvml.init_fault = NO_LIBRARY
    return nvml


def opened(machine: Machine, nvml: FakeNvml, *refs: int | str) -> list[Probe]:
    probes = open_probes(refs or None, nvml, machine.roots, DRIVERS)
    return probes


def looked(probes: list[Probe]) -> list[Measurement]:
    return [found for probe in probes for found in probe.measure(set())]


def card_of_amd(machine: Machine) -> Path:
    return machine.amd(1, AMD, vram_total=16 * GIB, vram_used=GIB, gtt_total=8 * GIB)


def integrated(machine: Machine) -> None:
    machine.card(0, IGPU, "i915", "0xa780", 128)


def test_a_card_goes_before_the_processors_gpu(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    integrated(machine)
    card_of_amd(machine)
    assert [m.pci for m in looked(opened(machine, without_nvml()))] == [AMD]


def test_cards_of_two_makers_both_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    card_of_amd(machine)
    found = looked(opened(machine, FakeNvml(Card("GPU-n", 24 * GIB))))
    assert [m.id for m in found] == ["GPU-n", AMD]


def test_the_number_that_is_shown_is_the_one_that_a_configuration_takes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    card_of_amd(machine)
    integrated(machine)
    on_the_bus(machine.roots.sys, "0000:0a:00.0")
    nvml = FakeNvml(Card("GPU-n", 24 * GIB, pci="00000000:0A:00.0"))
    shown = {m.ref: m.id for m in looked(opened(machine, nvml))}
    assert shown == {"0": AMD, "1": "GPU-n"}
    for number, id in shown.items():
        (meant,) = looked(opened(machine, nvml, int(number)))
        assert (meant.ref, meant.id) == (number, id)


def test_the_processors_gpu_counts_where_it_is_the_only_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    integrated(machine)
    found, pool = looked(opened(machine, without_nvml()))
    assert (found.pci, found.pool, found.unavailable) == (IGPU, MEMORY, None)
    assert (pool.id, pool.kind, pool.capacity) == (MEMORY, DeviceKind.POOL, 64 * GIB)


def test_without_any_gpu_models_run_in_ram(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (found,) = looked(opened(machine, without_nvml()))
    assert found.id == HOST


def test_a_gpu_that_was_offered_stays_when_a_card_is_plugged_in(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    integrated(machine)
    probes = opened(machine, without_nvml())
    assert [m.id for m in looked(probes)] == [IGPU, MEMORY]
    card = card_of_amd(machine)
    assert {m.id for m in looked(probes)} == {IGPU, AMD, MEMORY}, "there may be instances on the first"
    shutil.rmtree(card.parent)
    assert {m.id: m.unavailable for m in looked(probes)} == {
        IGPU: None,
        AMD: f"the card {AMD} is gone",
        MEMORY: None,
    }


def test_configured_devices_go_by_their_names(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    integrated(machine)
    card_of_amd(machine)
    found = looked(opened(machine, without_nvml(), 1, "03:00.0", HOST))
    assert {m.ref: m.id for m in found} == {"1": IGPU, "03:00.0": AMD, HOST: HOST, MEMORY: MEMORY}


def test_ram_stands_beside_the_cards_where_models_may_use_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    nvml = FakeNvml(Card("GPU-n", 24 * GIB))
    found = looked(open_probes(None, nvml, machine.roots, DRIVERS, ram=True))
    assert [m.id for m in found] == ["GPU-n", HOST]
    assert not found[1].hints, "it does not take the place of a GPU"
    alone = looked(open_probes(None, without_nvml(), machine.roots, DRIVERS, ram=True))
    assert [m.id for m in alone] == [HOST]
