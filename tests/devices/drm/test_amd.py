"""AMD's cards by amdgpu's sysfs, KFD and fdinfo."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from drm_trees import GIB, KIB, MIB, Clock, Machine, fdinfo

from lmxd.devices.drm.probe import DrmProbe
from lmxd.devices.measurement import DeviceKind, Measurement, ProcessUse
from lmxd.vendor import Vendor

AT = "0000:03:00.0"


def probe(machine: Machine, wanted: dict[str, str] | None = None) -> DrmProbe:
    return DrmProbe(wanted, roots=machine.roots, clock=Clock(), lists=machine.lists)


def only(found: list[Measurement]) -> Measurement:
    (measurement,) = found
    return measurement


def test_a_card_has_its_figures_its_processes_and_a_lasting_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(serial="6e4c21a3b0d5f7c2", vram_total=24 * GIB, vram_used=9 * GIB, gtt_total=32 * GIB, gtt_used=GIB)
    vulkan = fdinfo("amdgpu", AT, 62, resident_vram=f"{3 * MIB} KiB", resident_gtt="131072 KiB")
    machine.process(42, ("/dev/dri/renderD128", vulkan), ("/dev/dri/renderD128", vulkan), ("/dev/kfd", "pos:\t0"))
    found = only(probe(machine).measure({42}))
    assert (found.id, found.pci, found.vendor, found.kind) == ("GPU-6e4c21a3b0d5f7c2", AT, Vendor.AMD, DeviceKind.GPU)
    assert (found.capacity, found.used, found.pool, found.lower_bound) == (24 * GIB, 9 * GIB, None, False)
    assert found.processes == {42: ProcessUse(total=3 * GIB, visible=3 * GIB)}, "one client on two descriptors"
    assert (found.name, found.driver) == ("AMD Radeon RX 7900 series", "amdgpu 6.14.0-37-generic")


def test_the_name_is_the_drivers_or_the_lists(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    chip = "Navi 33 [Radeon RX 7600/7600 XT/7600M XT/7600S/7700S / PRO W7600]"
    machine.write(
        "pci.ids",
        f"# comment\n1001  Other\n\t7f80  Not this\n1002  AMD/ATI\n\t7f80  {chip}\n\t\t1002 0e3b  Board\n"
        "\t7f3f  Navi 24 [Radeon RX 6400]\n1003  Next\n\t7f4c  Not this either",
    )
    for number, device in enumerate(("0x7f80", "0x7f3f", "0x7f4c"), 1):
        machine.amd(number, f"0000:0{number}:00.0", device, vram_total=GIB, vram_used=0)
    (machine.amd(4, "0000:04:00.0", "0x740f", vram_total=GIB, vram_used=0) / "product_name").write_text(
        "AMD INSTINCT\n"
    )
    machine.amd(5, "0000:05:00.0", "0x1586", vram_total=GIB, vram_used=0)
    assert [m.name for m in probe(machine).measure(set())] == [
        "AMD Navi 33",
        "AMD Radeon RX 6400",
        "AMD GPU 1002:7f4c",
        "AMD INSTINCT",
        "AMD Radeon 8060S, 8050S",
    ]


@pytest.mark.parametrize("serial", ["", "0", "ffffffffffffffff", "no number", "-1"])
def test_without_a_unique_id_the_address_is_the_name(tmp_path: Path, serial: str) -> None:
    machine = Machine(tmp_path)
    machine.amd(serial=serial, vram_total=GIB, vram_used=0)
    assert only(probe(machine).measure(set())).id == AT


def test_cards_that_share_a_unique_id_are_told_apart(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for number in (1, 2):
        machine.amd(number, f"0000:0{number}:00.0", serial="abc", vram_total=GIB, vram_used=0)
    assert [m.id for m in probe(machine).measure(set())] == ["0000:01:00.0", "0000:02:00.0"]


@pytest.mark.parametrize(
    ("device", "vram", "gtt", "kfd", "unified"),
    [
        ("0x1586", GIB // 2, 112 * GIB, (0, GIB // 2), True),
        ("0x1586", 96 * GIB, 16 * GIB, (0, 96 * GIB), True),
        ("0x1586", GIB // 2, 15 * GIB, None, True),
        ("0x1638", 4 * GIB, 8 * GIB, None, True),
        ("0x744c", 24 * GIB, 32 * GIB, (24 * GIB, 24 * GIB), False),
        ("0x744c", 24 * GIB, 31 * GIB, None, False),
        ("0x743f", 4 * GIB, 64 * GIB, (0, 4 * GIB), False),
        ("0x743f", 4 * GIB, 64 * GIB, None, False),
        ("0x74a0", 128 * GIB, 64 * GIB, (0, 128 * GIB), True),
    ],
    ids=[
        "Strix Halo",
        "its carve-out is most of RAM",
        "no KFD",
        "Cezanne",
        "a card",
        "a card without KFD",
        "a small card, of a kernel whose KFD says 0 of all",
        "a small card with much RAM",
        "MI300A",
    ],
)
def test_whether_memory_is_the_machines(
    tmp_path: Path, device: str, vram: int, gtt: int, kfd: tuple[int, int] | None, unified: bool
) -> None:
    machine = Machine(tmp_path)
    machine.amd(device=device, vram_total=vram, vram_used=MIB, gtt_total=gtt, gtt_used=2 * MIB)
    if kfd is not None:
        machine.kfd(1, AT, *kfd)
    found = only(probe(machine).measure(set()))
    if unified:
        own = 0 if device == "0x74a0" else vram
        assert (found.capacity, found.used, found.pool) == (vram + gtt, 3 * MIB, "memory")
        assert (found.own, found.own_used) == (own, MIB if own else 0)
    else:
        assert (found.capacity, found.used, found.pool, found.own) == (vram, MIB, None, 0)


def test_kfd_tells_a_processors_gpu_with_an_unknown_number_beside_a_card(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(1, AT, "0x744c", vram_total=24 * GIB, vram_used=0, gtt_total=32 * GIB)
    machine.amd(2, "0000:10:00.0", "0x7fff", vram_total=2 * GIB, vram_used=0, gtt_total=32 * GIB, gtt_used=0)
    machine.kfd(1, AT, 24 * GIB)
    machine.kfd(2, "0000:10:00.0", 0)
    assert [m.pool for m in probe(machine).measure(set())] == [None, "memory"]


def test_rocms_numbers_are_those_of_kfds_nodes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for number, address in enumerate((AT, "0000:0a:00.0", "0000:0b:00.0"), 1):
        machine.amd(number, address, vram_total=24 * GIB, vram_used=0)
    machine.kfd(10, AT, 24 * GIB)
    machine.kfd(2, "0000:0a:00.0", 24 * GIB)
    machine.write("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 16\nsimd_count 0")
    (tmp_path / "sys/class/kfd/kfd/topology/nodes/1").mkdir()  # one that this user may not use
    assert [m.rocm for m in probe(machine).measure(set())] == [1, 0, None]


def test_the_only_card_is_rocms_first_and_one_of_intels_is_none_of_its(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(1, AT, vram_total=24 * GIB, vram_used=0)
    machine.card(2, "0000:0a:00.0", "xe", "0xe20b", 129)
    assert [m.rocm for m in probe(machine).measure(set())] == [0, None]


def test_a_process_on_unified_memory_has_both_regions(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(device="0x1586", vram_total=GIB, vram_used=GIB // 2, gtt_total=99 * GIB, gtt_used=24 * GIB)
    content = fdinfo("amdgpu", AT, 33, resident_gtt="20 GiB", resident_vram="5 MiB", resident_cpu="7 MiB")
    machine.process(42, ("/dev/dri/renderD128", content))
    held = 20 * GIB + 5 * MIB
    assert only(probe(machine).measure({42})).processes == {42: ProcessUse(total=held + 7 * MIB, visible=held)}


def test_rocms_bytes_are_not_added_to_those_of_the_same_process(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(vram_total=24 * GIB, vram_used=9 * GIB)
    machine.kfd(1, AT, 24 * GIB)
    machine.process(41, ("/dev/dri/renderD128", fdinfo("amdgpu", AT, 1, resident_vram="2 GiB")))
    machine.process(42)
    machine.write("sys/class/kfd/kfd/proc/41/vram_1000", 3 * GIB)
    machine.write("sys/class/kfd/kfd/proc/42/vram_1000", GIB)
    machine.write("sys/class/kfd/kfd/proc/42/vram_2000", 5 * GIB)
    machine.write("sys/class/kfd/kfd/proc/43/vram_1000", "garbage")
    uses = {41: ProcessUse(total=3 * GIB, visible=3 * GIB), 42: ProcessUse(total=GIB, visible=GIB)}
    assert only(probe(machine).measure({41, 42})).processes == uses
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026532001]")
    assert only(probe(machine).measure({41, 42})).processes == {41: ProcessUse(total=2 * GIB, visible=2 * GIB)}, (
        "in a container KFD's pids are not ours"
    )


@pytest.mark.parametrize("said", ["", "-5", "18446744073709547520", "many", "1e9", " 99999999999999999999"])
def test_garbage_is_a_reason_not_a_figure(tmp_path: Path, said: str) -> None:
    machine = Machine(tmp_path)
    card = machine.amd(vram_total=8 * GIB, vram_used=0)
    machine.amd(2, "0000:04:00.0", vram_total=8 * GIB, vram_used=GIB)
    (card / "mem_info_vram_used").write_text(f"{said}\n")
    bad, good = probe(machine).measure(set())
    assert bad.unavailable is not None
    assert "mem_info_vram_used" in bad.unavailable
    assert (good.unavailable, good.used) == (None, GIB)


def test_more_than_all_is_no_use(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(vram_total=8 * GIB, vram_used=9 * GIB)
    assert only(probe(machine).measure(set())).unavailable is not None


def test_a_card_that_sleeps_is_free(tmp_path: Path) -> None:
    """Reading one may fail until something wakes it; what is known of its size is enough to start on it."""
    machine = Machine(tmp_path)
    card = machine.amd(vram_total=8 * GIB, vram_used=0)
    (card / "mem_info_vram_used").unlink()
    (card / "mem_info_vram_used").mkdir()  # reading it is an error
    assert only(probe(machine).measure(set())).unavailable == "mem_info_vram_used: Is a directory"
    (card / "power").mkdir()
    (card / "power/runtime_status").write_text("suspended\n")
    found = only(probe(machine).measure(set()))
    assert (found.unavailable, found.capacity, found.used) == (None, 8 * GIB, 0)
    (card / "mem_info_vram_total").unlink()
    assert only(probe(machine).measure(set())).unavailable is not None
    machine.kfd(1, AT, 0, bank=8 * GIB)
    found = only(probe(machine).measure(set()))
    assert (found.unavailable, found.capacity, found.used) == (None, 8 * GIB, 0)


def test_cards_come_and_go(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first = machine.amd(vram_total=8 * GIB, vram_used=0, serial="a1")
    looking = probe(machine)
    assert [m.id for m in looking.measure(set())] == ["GPU-00000000000000a1"]
    machine.amd(2, "0000:64:00.0", vram_total=16 * GIB, vram_used=0, serial="b2")
    assert [m.id for m in looking.measure(set())] == ["GPU-00000000000000a1", "GPU-00000000000000b2"]
    shutil.rmtree(first.parent)
    by_id = {m.id: m for m in looking.measure(set())}
    assert by_id["GPU-00000000000000a1"].unavailable == "the card 0000:03:00.0 is gone"
    assert by_id["GPU-00000000000000b2"].unavailable is None


def test_a_card_that_goes_between_two_reads_is_unavailable(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    card = machine.amd(vram_total=8 * GIB, vram_used=0)
    for path in card.glob("mem_info*"):
        path.unlink()
    assert only(probe(machine).measure(set())).unavailable == "mem_info_vram_total: No such file or directory"


def test_a_card_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(serial="a1", vram_total=8 * GIB, vram_used=0)
    names = {
        "0": AT,
        "03:00.0": "03:00.0",
        "b": "GPU-00000000000000a1",
        "long": "00000000:03:00.0",
        "x": "0000:09:00.0",
    }
    found = {m.ref: m for m in probe(machine, names).measure(set())}
    assert {ref for ref, m in found.items() if m.unavailable is None} == {"0", "03:00.0", "b", "long"}
    assert {m.id for m in found.values() if m.unavailable is None} == {"GPU-00000000000000a1"}
    assert found["x"].unavailable == "there is no AMD or Intel GPU 0000:09:00.0"


def test_displays_of_others_and_partitions_are_no_cards(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for number, driver in enumerate(("nvidia", "nouveau", "ast", "simpledrm", "virtio-pci", "bochs-drm", "radeon")):
        machine.card(number, f"0000:0{number}:00.0", driver, "0x1234", 128 + number)
    machine.write("sys/class/drm/card9/device/uevent", "DRIVER=amdgpu_xcp_drv")
    machine.write("sys/class/drm/version", "drm 1.1.0 20060810")
    assert probe(machine).measure(set()) == []


@pytest.mark.parametrize(("vendor", "device", "counts"), [("0x1002", "0x744c", True), ("0x1002", "0x1586", False)])
def test_a_card_that_no_driver_has_yet_is_waited_for(tmp_path: Path, vendor: str, device: str, counts: bool) -> None:
    machine = Machine(tmp_path)
    place = f"sys/bus/pci/devices/{AT}"
    for name, said in (("vendor", vendor), ("device", device), ("class", "0x030000")):
        machine.write(f"{place}/{name}", said)
    machine.write("sys/bus/pci/devices/0000:03:00.1/vendor", vendor)
    machine.write("sys/bus/pci/devices/0000:03:00.1/class", "0x040300")
    looking = probe(machine)
    found = looking.measure(set())
    assert [m.unavailable for m in found] == ["no driver has the card yet: amdgpu is not loaded"] * counts
    assert all("modprobe amdgpu" in m.remedy for m in found)
    (tmp_path / place / "driver").symlink_to("../../../bus/pci/drivers/amdgpu")
    machine.amd(device=device, vram_total=8 * GIB, vram_used=0, gtt_total=0)
    assert [m.unavailable for m in looking.measure(set())] == [None]


def test_kernels_before_the_standard_keys(tmp_path: Path) -> None:
    """Linux 5.15 names neither the driver nor a client; the address space stands for it."""
    machine = Machine(tmp_path)
    machine.amd(vram_total=8 * GIB, vram_used=GIB)
    content = f"pdev:\t{AT}\npasid:\t32770\nvram mem:\t204800 kB\ngtt mem:\t5 kB\ncpu mem:\t0 kB\ngfx0:\t1.2%"
    machine.process(42, ("/dev/dri/renderD128", content), ("/dev/dri/renderD128", content))
    assert only(probe(machine).measure({42})).processes == {42: ProcessUse(total=200 * MIB, visible=200 * MIB)}


def test_without_figures_of_ours_nothing_is_told_apart(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(vram_total=8 * GIB, vram_used=GIB)
    machine.process(42, ("/dev/dri/renderD128", fdinfo("amdgpu", AT, 1)))
    assert only(probe(machine).measure({42})).partial, "it may have any bytes"
    found = only(probe(machine).measure({43}))
    assert (found.processes, found.partial) == ({}, False)


def test_the_link_says_the_card_where_fdinfo_does_not(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(1, AT, vram_total=8 * GIB, vram_used=GIB)
    machine.amd(2, "0000:04:00.0", vram_total=8 * GIB, vram_used=GIB)
    machine.process(42, ("/dev/dri/renderD129", fdinfo("amdgpu", None, 1, memory_vram=f"{300 * KIB} KiB")))
    assert [m.processes for m in probe(machine).measure({42})] == [
        {},
        {42: ProcessUse(total=300 * MIB, visible=300 * MIB)},
    ]


def test_a_client_of_several_processes_is_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.amd(vram_total=8 * GIB, vram_used=GIB)
    content = fdinfo("amdgpu", AT, 7, resident_vram="100 MiB")
    for pid in (7, 42, 43):
        machine.process(pid, ("/dev/dri/renderD128", content))
    assert only(probe(machine).measure({42, 43})).processes == {42: ProcessUse(total=100 * MIB, visible=100 * MIB)}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else for a moment")
def test_a_node_that_no_engine_could_open_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder))
        machine.amd(vram_total=8 * GIB, vram_used=GIB)
        (machine.root / "dev/dri/renderD128").chmod(0o600)
        assert only(probe(machine).measure(set())).hints == ()
        os.seteuid(64_998)
        try:
            found = only(probe(machine).measure(set()))
        finally:
            os.seteuid(0)
        assert (found.unavailable, found.capacity) == (None, 8 * GIB), "its figures are for all to read"
        assert [("renderD128" in hint, "usermod -aG render" in hint) for hint in found.hints] == [(True, True)]


def test_a_card_that_does_not_tell_its_id_for_once_is_no_second_one(tmp_path: Path) -> None:
    """Else its bytes would be promised under two names. A card of another model in its place is another."""
    machine = Machine(tmp_path)
    place = f"sys/bus/pci/devices/{AT}"
    for name, said in (("vendor", "0x1002"), ("device", "0x744c"), ("class", "0x030000")):
        machine.write(f"{place}/{name}", said)
    card = machine.amd(serial="a1", vram_total=8 * GIB, vram_used=0)
    looking, mine = probe(machine), "GPU-00000000000000a1"
    assert only(looking.measure(set())).id == mine
    for name in ("unique_id", "device"):
        (card / name).unlink()
        found = only(looking.measure(set()))
        assert (found.id, found.unavailable) == (mine, None)
    shutil.rmtree(card.parents[1])
    found = only(probe(machine).measure(set()))
    assert found.id == AT
    looking = probe(machine)
    card = machine.amd(serial="a1", vram_total=8 * GIB, vram_used=0)
    looking.measure(set())
    shutil.rmtree(card.parents[1])
    found = only(looking.measure(set()))
    assert (found.id, found.unavailable) == (mine, "no driver has the card yet: amdgpu is not loaded")
    machine.amd(device="0x7480", vram_total=16 * GIB, vram_used=0)
    assert {m.id: m.capacity for m in looking.measure(set()) if m.unavailable is None} == {AT: 16 * GIB}
