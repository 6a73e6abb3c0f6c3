"""The pool: one memory of which a GPU and RAM are views, on machines as people have them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest

from lmxd.catalog.layout import Layout
from lmxd.config.file import parse
from lmxd.core.words import DeviceId, DeviceReading
from lmxd.daemon.readings import device_reading, layout
from lmxd.devices.host import HostProbe
from lmxd.devices.measurement import DeviceKind, Measurement, ProcessUse
from lmxd.devices.pool import PoolProbe

KIB, MIB, GIB = 2**10, 2**20, 2**30
GB10_TOTAL = 127600748 * KIB


class Gpus:
    """GPUs that say what a test has them say."""

    def __init__(self, *found: Measurement) -> None:
        self.found = list(found)

    def measure(self, pids: Set[int]) -> list[Measurement]:
        return self.found

    def close(self) -> None:
        """Nothing is kept open."""


def gpu(**figures: object) -> Measurement:
    usual: dict[str, object] = {"id": "GPU-a", "ref": "0", "kind": DeviceKind.GPU, "name": "NVIDIA GB10"}
    return Measurement(**{**usual, "pool": "memory", **figures})  # type: ignore[arg-type]


def uses(**sizes: int) -> dict[int, ProcessUse]:
    return {int(pid.lstrip("p")): ProcessUse(total=size, visible=size) for pid, size in sizes.items()}


def machine(tmp_path: Path, total: int, available: int, resident: dict[int, tuple[int, int]]) -> HostProbe:
    """``resident``: anonymous bytes and mapped bytes of each process."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {total // KIB} kB\nMemAvailable: {available // KIB} kB\n")
    for pid, (anonymous, mapped) in resident.items():
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        lines = (f"RssAnon: {anonymous // KIB} kB", f"RssFile: {mapped // KIB} kB", "RssShmem: 0 kB")
        (tmp_path / str(pid) / "status").write_text("\n".join(lines) + "\n")
    return HostProbe(tmp_path, tmp_path / "cgroup")


def by_id(found: list[Measurement]) -> dict[str, Measurement]:
    return {m.id: m for m in found}


def readings(found: list[Measurement], config: str = "{}", **pids: set[int]) -> dict[str, DeviceReading]:
    section = parse(f"gpu: {config}", "test").gpu
    mine = {f"{name}#1": theirs for name, theirs in pids.items()}
    return {m.id: device_reading(m, section, mine, set()) for m in found}  # type: ignore[arg-type]


def test_a_gb10_has_one_memory_for_gpu_and_cpu(tmp_path: Path) -> None:
    ram = machine(tmp_path, GB10_TOTAL, GB10_TOTAL - 30 * GIB, {7: (GIB, 18 * GIB)})
    card = gpu(capacity=GB10_TOTAL, used=20 * GIB, processes=uses(p7=19 * GIB, p90=GIB))
    found = by_id(PoolProbe([Gpus(card)], ram).measure({7}))
    assert found.keys() == {"GPU-a", "memory"}
    memory = found["memory"]
    assert (memory.kind, memory.capacity, memory.used) == (DeviceKind.POOL, GB10_TOTAL, 30 * GIB)
    assert memory.processes is not None
    assert memory.processes[7] == ProcessUse(total=20 * GIB, visible=20 * GIB), "the mapped file is no third copy"
    read = readings(list(found.values()), m={7})
    assert (read["GPU-a"].pool, read["memory"].pool) == ("memory", None)
    assert read["GPU-a"].margin == 0, "the pool has it"
    assert read["memory"].margin == GB10_TOTAL // 20, "as of RAM"


def test_ram_beside_a_unified_gpu_is_a_view_too(tmp_path: Path) -> None:
    ram = machine(tmp_path, 64 * GIB, 30 * GIB, {7: (GIB, 18 * GIB), 8: (2 * GIB, 4 * GIB)})
    card = gpu(capacity=64 * GIB, used=20 * GIB, processes=uses(p7=20 * GIB))
    found = by_id(PoolProbe([Gpus(card), ram], ram).measure({7, 8}))
    host = found["host"]
    assert (host.pool, host.used) == ("memory", 14 * GIB), "what the GPU has of it is in use on the GPU"
    assert host.processes is not None
    assert host.processes[7] == ProcessUse(total=GIB, visible=GIB), "pages of a model that is on the GPU do not count"
    assert host.processes[8] == ProcessUse(total=6 * GIB, visible=2 * GIB), "those of one that runs on the CPU do"
    assert layout(list(found.values())) == Layout(
        {DeviceId("GPU-a"): DeviceKind.GPU, DeviceId("host"): DeviceKind.HOST, DeviceId("memory"): DeviceKind.POOL},
        {DeviceId("GPU-a"): DeviceId("memory"), DeviceId("host"): DeviceId("memory")},
    )


def test_the_carve_out_of_an_apu_is_memory_beside_ram(tmp_path: Path) -> None:
    """Strix Halo with 96 GiB for the GPU by its BIOS: the kernel's RAM is the rest."""
    ram = machine(tmp_path, 32 * GIB, 26 * GIB, {})
    card = gpu(id="0000:c5:00.0", capacity=112 * GIB, used=82 * GIB, own=96 * GIB, own_used=80 * GIB, processes={})
    found = by_id(PoolProbe([Gpus(card), ram], ram).measure(set()))
    assert (found["memory"].capacity, found["memory"].used) == (128 * GIB, 86 * GIB)
    assert found["host"].used == 6 * GIB, "its 2 GiB in RAM could be in the carve-out, for all that the pool knows"
    read = readings(list(found.values()))
    assert read["host"].margin == 32 * GIB // 20, "the margin of the pool may be in the carve-out"
    full = replace(card, used=108 * GIB, own_used=96 * GIB)
    found = by_id(PoolProbe([Gpus(full), machine(tmp_path, 32 * GIB, 10 * GIB, {})], ram).measure(set()))
    assert found["host"].used == 10 * GIB, "the carve-out is full: 12 of the 22 in use are the GPU's"


def test_a_small_carve_out_is_hardly_seen(tmp_path: Path) -> None:
    ram = machine(tmp_path, 125 * GIB, 100 * GIB, {5: (GIB, 0)})
    card = gpu(capacity=113 * GIB, used=24 * GIB, own=512 * MIB, own_used=512 * MIB, processes=uses(p5=23 * GIB))
    (_, memory) = PoolProbe([Gpus(card)], ram).measure({5})
    assert (memory.capacity, memory.used) == (125 * GIB + 512 * MIB, 25 * GIB + 512 * MIB)
    assert memory.processes == {5: ProcessUse(total=24 * GIB, visible=24 * GIB)}


def test_without_a_unified_gpu_there_is_no_pool(tmp_path: Path) -> None:
    ram = machine(tmp_path, 64 * GIB, 30 * GIB, {})
    card = gpu(pool=None, capacity=24 * GIB)
    found = PoolProbe([Gpus(card), ram], ram).measure(set())
    assert [(m.id, m.pool) for m in found] == [("GPU-a", None), ("host", None)]


def test_a_gpu_that_does_not_answer_stays_a_view(tmp_path: Path) -> None:
    ram = machine(tmp_path, 64 * GIB, 30 * GIB, {})
    gpus = Gpus(gpu(capacity=64 * GIB, processes={}, own=GIB))
    probe = PoolProbe([gpus], ram)
    probe.measure(set())
    gpus.found = [replace(gpu(pool=None), unavailable="NVML: Unknown Error")]
    card, memory = probe.measure(set())
    assert (card.pool, memory.capacity, memory.unavailable) == ("memory", 65 * GIB, None)


@pytest.mark.parametrize("named", [{"processes": None}, {"processes": {}, "partial": True}], ids=["none", "container"])
def test_what_one_gpu_cannot_tell_apart_the_pool_cannot_either(tmp_path: Path, named: dict[str, object]) -> None:
    ram = machine(tmp_path, 64 * GIB, 30 * GIB, {7: (GIB, 0)})
    (_, memory) = PoolProbe([Gpus(gpu(capacity=64 * GIB, **named))], ram).measure({7})
    assert memory.processes is None
    assert not readings([memory], m={7})["memory"].taken


def test_without_meminfo_the_pool_is_unavailable(tmp_path: Path) -> None:
    (_, memory) = PoolProbe([Gpus(gpu(processes={}))], HostProbe(tmp_path / "gone")).measure(set())
    assert memory.unavailable is not None
    assert "meminfo" in memory.unavailable


@pytest.mark.parametrize(
    ("config", "margin", "limits"),
    [
        ("{margin_gb: 3}", 3 * GIB, {"GPU-a": None, "memory": None}),
        ("{max_memory_gb: 20}", 64 * GIB // 20, {"GPU-a": 20 * GIB, "memory": None}),
        ("{devices: [{device: 0, margin_gb: 4, max_memory_gb: 9}]}", 4 * GIB, {"GPU-a": 9 * GIB, "memory": None}),
    ],
)
def test_limits_are_those_of_the_views_and_the_margin_is_the_pools(
    tmp_path: Path, config: str, margin: int, limits: dict[str, int | None]
) -> None:
    ram = machine(tmp_path, 64 * GIB, 30 * GIB, {})
    read = readings(PoolProbe([Gpus(gpu(capacity=64 * GIB, processes={}))], ram).measure(set()), config)
    assert read["memory"].margin == margin
    assert read["GPU-a"].margin == 0
    assert {name: x.limit for name, x in read.items()} == limits


def test_a_limited_cgroup_has_no_more_than_the_machine_has_left(tmp_path: Path) -> None:
    group = tmp_path / "cgroup/box"
    group.mkdir(parents=True)
    for name, text in (
        ("memory.max", 16 * GIB),
        ("memory.current", GIB),
        ("memory.stat", "active_file 0\ninactive_file 0"),
    ):
        (group / name).write_text(str(text))
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/box\n")
    ram = machine(tmp_path, 64 * GIB, 5 * GIB, {})
    (host,) = ram.measure(set())
    assert (host.capacity, host.used) == (16 * GIB, 11 * GIB), "others on the machine have left no more than 5"
    (_, memory) = PoolProbe([Gpus(gpu(capacity=64 * GIB, processes={}))], ram).measure(set())
    assert (memory.capacity, memory.used) == (16 * GIB, 11 * GIB)


def test_an_option_charges_the_pool_with_all_its_bytes() -> None:
    gpu_id, host, memory = DeviceId("GPU-a"), DeviceId("host"), DeviceId("memory")
    kinds = {gpu_id: DeviceKind.GPU, host: DeviceKind.HOST, memory: DeviceKind.POOL}
    both = Layout(kinds, {gpu_id: memory, host: memory}).option({gpu_id: 5 * GIB}, GIB)
    assert both.demand == {gpu_id: 5 * GIB, host: GIB, memory: 6 * GIB}
    assert (both.pools, both.size) == ((memory,), 6 * GIB)
    without = Layout({gpu_id: DeviceKind.GPU, memory: DeviceKind.POOL}, {gpu_id: memory}).option({gpu_id: 5 * GIB}, GIB)
    assert without.demand == {gpu_id: 5 * GIB, memory: 6 * GIB}, "the RAM beside is of the same memory"
    plain = Layout({gpu_id: DeviceKind.GPU, host: DeviceKind.HOST}).option({gpu_id: 5 * GIB}, 0)
    assert (plain.demand, plain.pools) == ({gpu_id: 5 * GIB, host: 0}, ())
