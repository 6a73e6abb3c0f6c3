"""GPUs through NVML: figures, names, and faults that pause a device instead of ending the daemon."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from devices.fake_nvml import Card, FakeNvml

from lmxd.devices.measurement import ProcessUse
from lmxd.devices.nvml import NvmlProbe
from lmxd.devices.roots import Roots

NOWHERE = Roots(sys=Path("/nowhere"), proc=Path("/nowhere"))
GIB = 2**30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def two() -> FakeNvml:
    return FakeNvml(
        Card("GPU-a", 24 * GIB, reserved=GIB, pci="00000000:01:00.0"), Card("GPU-b", 80 * GIB, pci="00000000:41:00.0")
    )


def probe(nvml: FakeNvml, *refs: int | str, clock: Clock | None = None, roots: Roots = NOWHERE) -> NvmlProbe:
    return NvmlProbe(nvml, refs or None, clock or Clock(), roots)


def test_reserved_memory_is_kept_apart() -> None:
    nvml = two()
    nvml.cards[0].processes = {7: 3 * GIB}
    nvml.cards[0].other = GIB
    found = probe(nvml).measure(set())[0]
    assert (found.id, found.capacity, found.reserved, found.used) == ("GPU-a", 23 * GIB, GIB, 4 * GIB)
    assert found.processes == {7: ProcessUse(total=3 * GIB, visible=3 * GIB)}


def test_what_grows_between_two_looks_is_looked_at_again() -> None:
    """The device's figure and the list of processes are of different moments: a load must not hide what is foreign."""
    nvml = two()
    card = nvml.cards[0]
    card.processes, card.other = {7: GIB}, 10 * GIB
    grown = iter((20 * GIB,))

    def load(card: Card) -> None:
        card.processes = {7: next(grown, 20 * GIB)}

    nvml.meanwhile = load
    found = probe(nvml, 0).measure(set())[0]
    assert found.processes == {7: ProcessUse(total=20 * GIB, visible=20 * GIB)}
    assert found.used - 20 * GIB == 10 * GIB


def test_what_always_grows_is_visible_as_far_as_it_is_certain() -> None:
    nvml = two()
    card = nvml.cards[1]
    card.processes, card.other = {7: GIB}, 10 * GIB

    def load(card: Card) -> None:
        grown = {pid: (size or 0) + GIB for pid, size in (card.processes or {}).items()}
        card.processes = {8: GIB, **grown}

    nvml.meanwhile = load
    found = probe(nvml, 1).measure(set())[0]
    assert found.processes is not None
    assert {pid: use.total for pid, use in found.processes.items()} == {7: 4 * GIB, 8: 3 * GIB}
    assert found.used - sum(use.visible for use in found.processes.values()) >= 10 * GIB, "never less than is foreign"


def test_nothing_said_means_all() -> None:
    assert [m.id for m in probe(two()).measure(set())] == ["GPU-a", "GPU-b"]


@pytest.mark.parametrize("ref", [1, "GPU-b", "0000:41:00.0"])
def test_a_gpu_by_index_uuid_or_pci_id(ref: int | str) -> None:
    (found,) = probe(two(), ref).measure(set())
    assert (found.id, found.ref) == ("GPU-b", str(ref))


@pytest.mark.parametrize("ref", [5, "GPU-x", "0000:99:00.0"])
def test_a_gpu_that_is_not_there_is_unavailable_by_name(ref: int | str) -> None:
    (found,) = probe(two(), ref).measure(set())
    assert found.unavailable is not None
    assert str(ref) in found.unavailable


@pytest.mark.parametrize("fault", [9, 12])
def test_no_driver_and_no_card_is_no_gpu(fault: int) -> None:
    nvml = two()
    nvml.init_fault = fault
    looked = probe(nvml)
    assert looked.measure(set()) == []
    assert looked.absent


def test_no_card_is_no_gpu() -> None:
    assert probe(FakeNvml()).measure(set()) == []


@pytest.mark.parametrize("silent", [None, {7: None}])
def test_processes_that_nvml_does_not_tell_apart(silent: dict[int, int | None] | None) -> None:
    nvml = two()
    nvml.cards[0].processes = silent
    assert probe(nvml).measure(set())[0].processes is None


def test_a_driver_mismatch_pauses_and_recovers() -> None:
    nvml, clock = two(), Clock()
    nvml.init_fault = 18
    looked = probe(nvml, 0, clock=clock)
    (found,) = looked.measure(set())
    assert found.unavailable is not None
    assert "mismatch" in found.unavailable
    nvml.init_fault = None
    clock.now = 2.0
    (found,) = looked.measure(set())
    assert (found.id, found.unavailable) == ("GPU-a", None)


def test_a_lost_gpu_pauses_keeps_its_name_and_recovers() -> None:
    nvml, clock = two(), Clock()
    looked = probe(nvml, 0, clock=clock)
    looked.measure(set())
    nvml.cards[0].fault = 15
    (found,) = looked.measure(set())
    assert (found.id, found.unavailable) == ("GPU-a", "NVML: GPU is lost")
    nvml.cards[0].fault = None
    clock.now = 0.5
    assert looked.measure(set())[0].unavailable, "it is asked again after a second, not before"
    clock.now = 1.5
    assert looked.measure(set())[0].unavailable is None


def test_the_pause_between_attempts_grows_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, clock = two(), Clock()
    looked = probe(nvml, 0, clock=clock)
    nvml.init_fault, nvml.cards[0].fault = 18, 15
    attempts = []
    real = nvml.nvmlInit

    def counted() -> None:
        attempts.append(clock.now)
        real()

    monkeypatch.setattr(nvml, "nvmlInit", counted)
    for second in range(400):
        clock.now = float(second)
        looked.measure(set())
    gaps = [b - a for a, b in pairwise(attempts)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_one_missing_card_does_not_pause_the_other() -> None:
    nvml = two()
    looked = probe(nvml, 0, 7)
    for _ in range(3):
        good, missing = looked.measure(set())
        assert good.unavailable is None
        assert missing.unavailable is not None
    assert nvml.opened == 1


def test_a_lost_card_is_not_taken_for_one_that_was_never_there() -> None:
    """Its own fault is told, not that of the card before it in the configuration."""
    now, card = [0.0], Card("GPU-a", 100)
    probe = NvmlProbe(FakeNvml(card), ("GPU-missing", "GPU-a"), lambda: now[0], NOWHERE)
    probe.measure(set())
    card.fault = 15
    probe.measure(set())
    now[0] = 0.5
    told = {m.ref: m.unavailable or "" for m in probe.measure(set())}
    assert "lost" in told["GPU-a"]
