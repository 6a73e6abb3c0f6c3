"""A daemon on a machine with a card of AMD's or Intel's, as its owner sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from drm_trees import GIB, MIB, Machine, fdinfo
from house import House

AT = "0000:03:00.0"


def machine(tmp_path: Path) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine")


@pytest.mark.asyncio
async def test_an_instance_is_charged_what_its_clients_hold(tmp_path: Path) -> None:
    its = machine(tmp_path)
    card = its.amd(serial="a1", vram_total=16 * GIB, vram_used=GIB, gtt_total=16 * GIB)
    house = House(tmp_path, models={"m": {"estimated_memory_gb": 2}})
    house.roots = its.roots
    async with house.open(), house.client() as client:
        (before,) = (await client.devices()).devices
        assert (before.id, before.kind, before.foreign) == ("GPU-00000000000000a1", "gpu", GIB)
        lease = await client.request("m", hold="explicit")
        launched = house.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        content = fdinfo("amdgpu", AT, 1, resident_vram=f"{3 * MIB} KiB")
        its.process(launched.process.pid, ("/dev/dri/renderD128", content))
        (card / "mem_info_vram_used").write_text(f"{4 * GIB}\n")
        (after,) = (await client.devices()).devices
        assert (after.used, after.foreign, after.charged) == (4 * GIB, GIB, 3 * GIB)


@pytest.mark.asyncio
async def test_use_that_cannot_be_seen_is_said_to_be_a_lower_bound(tmp_path: Path) -> None:
    its = machine(tmp_path)
    its.card(1, AT, "xe", "0xe20b", 129)
    its.write("sys/class/drm/card1/device/tile0/physical_vram_size_bytes", hex(12 * GIB))
    its.process(900, ("/dev/dri/card1", fdinfo("xe", AT, 2, resident_vram0="1 GiB")))
    house = House(tmp_path, models={"m": {"estimated_memory_gb": 2}})
    house.roots = its.roots
    async with house.open(), house.client() as client:
        status = await client.status()
        (device,) = status.devices
        assert (device.lower_bound, device.capacity, device.foreign) == (True, 12 * GIB, GIB)
        assert any("CAP_PERFMON" in warning for warning in status.warnings)


@pytest.mark.asyncio
async def test_a_card_without_a_driver_is_waited_for_and_ram_is_not_taken(tmp_path: Path) -> None:
    its = machine(tmp_path)
    for name, said in (("vendor", "0x1002"), ("device", "0x744c"), ("class", "0x030000")):
        its.write(f"sys/bus/pci/devices/{AT}/{name}", said)
    house = House(tmp_path, models={"m": {"estimated_memory_gb": 2}})
    house.roots = its.roots
    async with house.open(), house.client() as client:
        (device,) = (await client.devices()).devices
        assert device.kind == "gpu"
        assert device.unavailable == "no driver has the card yet: amdgpu is not loaded"
        its.amd(vram_total=16 * GIB, vram_used=GIB, gtt_total=16 * GIB)
        (device,) = (await client.devices()).devices
        assert (device.unavailable, device.capacity) == (None, 16 * GIB)
        await client.request("m", hold="explicit")


@pytest.mark.asyncio
async def test_a_processors_gpu_and_its_memory_are_charged_together(tmp_path: Path) -> None:
    """A Strix Halo with 128 GiB, of which 512 MiB are a carve-out: the model's bytes are in GTT, which is RAM."""
    its = machine(tmp_path)
    its.write("proc/meminfo", f"MemTotal: {124 * MIB} kB\nMemAvailable: {100 * MIB} kB")
    place = its.amd(
        device="0x1586",
        vram_total=GIB // 2,
        vram_used=64 * MIB,
        gtt_total=112 * GIB,
        gtt_used=0,
        address="0000:c6:00.0",
    )
    house = House(tmp_path, models={"m": {"estimated_memory_gb": 20}})
    house.roots = its.roots
    async with house.open(), house.client() as client:
        lease = await client.request("m", hold="explicit")
        launched = house.launched(lease.instance)
        assert launched is not None
        assert launched.process is not None
        content = fdinfo("amdgpu", "0000:c6:00.0", 1, resident_gtt="24 GiB", resident_vram="0")
        its.process(launched.process.pid, ("/dev/dri/renderD128", content))
        its.write(f"proc/{launched.process.pid}/status", "RssAnon: 0 kB\nRssFile: 0 kB\nRssShmem: 0 kB")
        its.write("proc/meminfo", f"MemTotal: {124 * MIB} kB\nMemAvailable: {76 * MIB} kB")
        (place / "mem_info_gtt_used").write_text(f"{24 * GIB}\n")
        gpu, memory = (await client.devices()).devices
        assert (gpu.pool, memory.kind, memory.views) == ("memory", "pool", [gpu.id])
        assert (gpu.charged, gpu.foreign) == (24 * GIB, 64 * MIB)
        assert memory.capacity == 124 * GIB + GIB // 2
        assert (memory.charged, memory.foreign) == (24 * GIB, 24 * GIB + 64 * MIB)
