"""Intel's cards by the drivers' ioctls, debugfs and fdinfo."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from drm_trees import GIB, MIB, Clock, Drivers, Machine, fdinfo

from lmxd.devices.drm.ioctls import Region, decode_i915, decode_xe
from lmxd.devices.drm.probe import DrmProbe
from lmxd.devices.measurement import Measurement, ProcessUse
from lmxd.vendor import Vendor

AT = "0000:03:00.0"
SYSTEM, OWN = 0, 1


def only(found: list[Measurement]) -> Measurement:
    (measurement,) = found
    return measurement


def probe(machine: Machine, drivers: Drivers, *, clock: Clock | None = None) -> DrmProbe:
    return DrmProbe(None, roots=machine.roots, ioctl=drivers, clock=clock or Clock(), lists=())


def with_card(tmp_path: Path, driver: str) -> tuple[Machine, Drivers]:
    machine = Machine(tmp_path)
    machine.card(1, AT, driver, "0xe20b", 129)
    regions = [(SYSTEM, 64 * GIB, 9 * GIB), (OWN, 12 * GIB, 5 * GIB)]
    return machine, Drivers({"renderD129": regions})


DRIVERS = [("xe", "vram0"), ("i915", "local0")]


@pytest.mark.parametrize(("driver", "region"), DRIVERS)
def test_the_driver_tells_size_and_use(tmp_path: Path, driver: str, region: str) -> None:
    machine, drivers = with_card(tmp_path, driver)
    machine.process(42, ("/dev/dri/renderD129", fdinfo(driver, AT, 1, **{f"resident_{region}": "4 GiB"})))
    found = only(probe(machine, drivers).measure({42}))
    assert (found.id, found.vendor, found.pool) == (AT, Vendor.INTEL, None)
    assert (found.capacity, found.used, found.lower_bound) == (12 * GIB, 5 * GIB, False)
    assert found.processes == {42: ProcessUse(total=4 * GIB, visible=4 * GIB)}


@pytest.mark.parametrize(("driver", "region"), DRIVERS)
def test_without_the_capability_a_card_is_not_taken_for_empty(tmp_path: Path, driver: str, region: str) -> None:
    machine, drivers = with_card(tmp_path, driver)
    drivers.perfmon = False
    ours = fdinfo(driver, AT, 1, **{f"resident_{region}": "4 GiB"})
    others = fdinfo(driver, AT, 2, **{f"resident_{region}": "300 MiB", "resident-system": "9 GiB"})
    machine.process(42, ("/dev/dri/renderD129", ours))
    machine.process(900, ("/dev/dri/card1", others))
    found = only(probe(machine, drivers).measure({42}))
    assert (found.capacity, found.used, found.lower_bound) == (12 * GIB, 4 * GIB + 300 * MIB, True)
    assert "CAP_PERFMON" in found.hints[0]
    assert found.processes is not None
    assert set(found.processes) == {42, 900}


def test_what_clients_share_is_counted_once(tmp_path: Path) -> None:
    machine, drivers = with_card(tmp_path, "xe")
    drivers.perfmon = False
    for pid in (900, 901):
        content = fdinfo("xe", AT, pid, resident_vram0="300 MiB", shared_vram0="200 MiB")
        machine.process(pid, ("/dev/dri/card1", content))
    assert only(probe(machine, drivers).measure(set())).used == 400 * MIB


def test_all_processes_are_looked_at_now_and_then(tmp_path: Path) -> None:
    machine, drivers = with_card(tmp_path, "xe")
    drivers.perfmon = False
    clock = Clock()
    looking = probe(machine, drivers, clock=clock)
    assert only(looking.measure(set())).used == 0
    machine.process(900, ("/dev/dri/card1", fdinfo("xe", AT, 2, resident_vram0="1 GiB")))
    machine.process(42, ("/dev/dri/card1", fdinfo("xe", AT, 1, resident_vram0="2 GiB")))
    clock.now = 9
    assert only(looking.measure({42})).used == 2 * GIB, "ours are looked at always"
    clock.now = 11
    assert only(looking.measure({42})).used == 3 * GIB
    (tmp_path / "proc/900").rename(tmp_path / "proc/gone")
    assert only(looking.measure({42})).used == 2 * GIB


VRAM_MM = "  use_type: 1\n  use_tt: 0\n  size: {size}\n  usage: {usage}\ndefault_page_size: 4KiB\nchunk_size: 4KiB"
OLD_OBJECTS = (
    "42 shrinkable [1 free] objects, 4096 bytes\nsystem: total:0xf00000000 bytes\n"
    "local0: total:0x300000000, available:0x200000000 bytes"
)
NEW_OBJECTS = (
    "42 shrinkable [1 free] objects, 4096 bytes\nsystem: total:0xf00000000 bytes\nlocal0:   use_type: 1\n  use_tt: 0\n"
    "  size: 12884901888\n  usage: 4294967296\ndefault_page_size: 4KiB\nstolen-local: total:0x100 bytes"
)


@pytest.mark.parametrize(
    ("driver", "path", "content"),
    [
        ("xe", f"{AT}/tile0/vram_mm", VRAM_MM.format(size=12 * GIB, usage=4 * GIB)),
        ("xe", "1/tile0/vram0_mm", VRAM_MM.format(size=12 * GIB, usage=4 * GIB)),
        ("i915", f"{AT}/i915_gem_objects", OLD_OBJECTS),
        ("i915", "1/i915_gem_objects", NEW_OBJECTS),
    ],
)
@pytest.mark.parametrize("node", [True, False])
def test_debugfs_says_it_to_root(tmp_path: Path, driver: str, path: str, content: str, node: bool) -> None:
    machine, drivers = with_card(tmp_path, driver)
    drivers.perfmon = False
    if not node:
        (tmp_path / "dev/dri/renderD129").unlink()
    machine.write(f"sys/kernel/debug/dri/{path}", content)
    found = only(probe(machine, drivers).measure(set()))
    assert (found.unavailable, found.capacity, found.used) == (None, 12 * GIB, 4 * GIB)
    assert not found.lower_bound


def test_two_tiles_are_one_card(tmp_path: Path) -> None:
    machine, _ = with_card(tmp_path, "xe")
    drivers = Drivers({"renderD129": [(SYSTEM, 64 * GIB, 0), (OWN, 32 * GIB, GIB), (OWN, 32 * GIB, 2 * GIB)]})
    content = fdinfo("xe", AT, 1, resident_vram0="1 GiB", resident_vram1="1 GiB")
    machine.process(42, ("/dev/dri/renderD129", content))
    found = only(probe(machine, drivers).measure({42}))
    assert (found.capacity, found.used) == (64 * GIB, 3 * GIB)
    assert found.processes == {42: ProcessUse(total=2 * GIB, visible=2 * GIB)}


def test_a_node_that_may_not_be_opened_is_said_with_its_remedy(tmp_path: Path) -> None:
    machine, drivers = with_card(tmp_path, "xe")
    (tmp_path / "dev/dri/renderD129").unlink()
    found = only(probe(machine, drivers).measure(set()))
    assert found.unavailable == "/dev/dri/renderD129 cannot be opened: No such file or directory"
    assert "container" in found.remedy
    machine.write("sys/class/drm/card1/device/tile0/physical_vram_size_bytes", "0x300000000")
    found = only(probe(machine, drivers).measure(set()))
    assert (found.unavailable, found.capacity, found.lower_bound) == (None, 12 * GIB, True)


def test_a_driver_that_refuses_is_a_reason(tmp_path: Path) -> None:
    machine, _ = with_card(tmp_path, "i915")
    found = only(probe(machine, Drivers()).measure(set()))
    assert found.unavailable == "i915 does not say what memory it has: No such device"


@pytest.mark.parametrize(
    ("driver", "told", "region", "used"), [("xe", 2 * GIB, "gtt", 2 * GIB), ("i915", 0, "system0", GIB)]
)
def test_an_integrated_gpu_has_the_machines_memory(
    tmp_path: Path, driver: str, told: int, region: str, used: int
) -> None:
    machine = Machine(tmp_path, memory=32 * GIB)
    machine.card(0, "0000:00:02.0", driver, "0x64a0", 128)
    content = fdinfo(driver, "0000:00:02.0", 1, **{f"total_{region}": "1 GiB"})
    machine.process(42, ("/dev/dri/renderD128", content))
    drivers = Drivers({"renderD128": [(SYSTEM, 24 * GIB, told)]})
    found = only(probe(machine, drivers).measure({42}))
    assert (found.capacity, found.used, found.pool, found.own) == (24 * GIB, used, "memory", 0)
    assert found.processes == {42: ProcessUse(total=GIB, visible=GIB)}
    blind = only(probe(machine, Drivers()).measure({42}))
    assert (blind.capacity, blind.used, blind.lower_bound) == (32 * GIB, GIB, True)


def test_a_card_that_sleeps_is_not_woken_and_is_free(tmp_path: Path) -> None:
    machine, drivers = with_card(tmp_path, "xe")
    looking = probe(machine, drivers)
    looking.measure(set())
    asked = drivers.asked
    machine.write("sys/class/drm/card1/device/power/runtime_status", "suspended")
    found = only(looking.measure(set()))
    assert (found.capacity, found.used, found.lower_bound) == (12 * GIB, 0, False)
    assert drivers.asked == asked
    machine.write("sys/class/drm/card1/device/power/runtime_status", "active")
    assert only(looking.measure(set())).used == 5 * GIB


def test_the_layouts_of_the_kernels_headers() -> None:
    """Offsets by xe_drm.h and i915_drm.h: regions of 88 bytes after heads of 8 and of 16."""
    xe = bytearray(8 + 88)
    struct.pack_into("=I", xe, 0, 1)
    struct.pack_into("=H", xe, 8, OWN)
    struct.pack_into("=Q", xe, 8 + 8, 12 * GIB)
    struct.pack_into("=Q", xe, 8 + 16, GIB)
    assert list(decode_xe(bytes(xe))) == [Region(local=True, total=12 * GIB, used=GIB)]
    i915 = bytearray(16 + 88)
    struct.pack_into("=I", i915, 0, 1)
    struct.pack_into("=H", i915, 16, OWN)
    struct.pack_into("=Q", i915, 16 + 8, 16 * GIB)
    struct.pack_into("=Q", i915, 16 + 16, 10 * GIB)
    assert list(decode_i915(bytes(i915))) == [Region(local=True, total=16 * GIB, used=6 * GIB)]
