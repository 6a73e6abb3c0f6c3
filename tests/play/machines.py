"""Machines as people have them, to be played: name -> the directory of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from devices.machines import on_the_bus
from drm_trees import GIB, MIB, Machine, fdinfo

Builder = Callable[[Machine], None]


def nvidia(
    machine: Machine, *devices: dict[str, Any], bus: bool = True, driver: str = "580.95.05", rc: int = 0
) -> None:
    """NVML's answers, and its cards on the bus."""
    machine.write("nvml.json", json.dumps({"driver": driver, "init": {"rc": rc}, "devices": devices}))
    for device in devices if bus else ():
        on_the_bus(machine.root / "sys", device["pci"].lower()[4:])


def card(name: str, total: int, used: int = 400 * MIB, bus: int = 1, **more: Any) -> dict[str, Any]:
    """One card of NVIDIA's, as NVML describes it."""
    return {
        "name": f"NVIDIA {name}",
        "uuid": f"GPU-{bus:02x}a4c5e8-1111-2222-3333-444455556666",
        "pci": f"00000000:{bus:02X}:00.0",
        "memory_v1": {"total": total, "used": used + 256 * MIB},
        "memory_v2": {"total": total, "used": used, "reserved": 256 * MIB},
        "compute_processes_v3": {"list": []},
        "graphics_processes_v3": {"list": [{"pid": 1501, "used": used - 100 * MIB}]},
    } | more


def rtx_3060(m: Machine) -> None:
    """Driver 470 knows no memory v2."""
    rtx = card("GeForce RTX 3060", 12 * GIB, cores=3584, compute=[8, 6], memory_v2={"rc": 13})
    nvidia(m, rtx, driver="470.256.02")


def two_one_lost(m: Machine) -> None:
    cards = [card("GeForce RTX 3090", 24 * GIB, bus=b, cores=10496, compute=[8, 6]) for b in (1, 2)]
    for call in ("memory_v1", "memory_v2", "compute_processes_v3", "handle"):
        cards[1][call] = {"rc": 15}
    nvidia(m, *cards)


def two_one_hangs(m: Machine) -> None:
    cards = [card("GeForce RTX 3090", 24 * GIB, bus=b, cores=10496, compute=[8, 6]) for b in (1, 2)]
    cards[1]["memory_v2"] = {"hangs": True}
    nvidia(m, *cards)


def two_one_unknown(m: Machine) -> None:
    cards = [card("GeForce RTX 3090", 24 * GIB, bus=b, cores=10496, compute=[8, 6]) for b in (1, 2)]
    cards[1]["handle"] = {"rc": 999}
    nvidia(m, *cards)


def intel_laptop(m: Machine) -> None:
    """Intel's iGPU draws the desktop, NVIDIA's card computes."""
    m.card(0, "0000:00:02.0", "i915", "0xa7a0", 128)
    on_the_bus(m.root / "sys", "0000:00:02.0", "0x8086", driver="i915")
    m.write("ioctl.json", json.dumps({"perfmon": False, "regions": {"renderD128": [[0, 16 * GIB, 0]]}}))
    m.card(1, "0000:01:00.0", "nvidia", "0x28e0", 129)
    nvidia(m, card("GeForce RTX 4060 Laptop GPU", 8 * GIB, 150 * MIB, cores=3072, compute=[8, 9]))


def amd_and_nvidia(m: Machine) -> None:
    m.amd(
        0, "0000:03:00.0", serial="9a1b2c3d4e5f6071", vram_total=24 * GIB, vram_used=GIB, gtt_total=32 * GIB, gtt_used=0
    )
    m.card(1, "0000:0a:00.0", "nvidia", "0x2204", 129)
    nvidia(m, card("GeForce RTX 3090", 24 * GIB, bus=10, cores=10496, compute=[8, 6]))


def apu(carve_out: int, memory: int, gtt: int, device: str = "0x1586") -> Builder:
    def build(m: Machine) -> None:
        kept = memory - carve_out
        m.write("proc/meminfo", f"MemTotal: {kept // 1024} kB\nMemAvailable: {(kept - 3 * GIB) // 1024} kB")
        m.amd(0, "0000:c5:00.0", device, vram_total=carve_out, vram_used=300 * MIB, gtt_total=gtt, gtt_used=80 * MIB)
        m.kfd(1, "0000:c5:00.0", 0)
        on_the_bus(m.root / "sys", "0000:c5:00.0", "0x1002", driver="amdgpu")

    return build


def two_7900(m: Machine) -> None:
    for n, bus in enumerate(("03", "0c")):
        m.amd(
            n,
            f"0000:{bus}:00.0",
            serial=f"{n + 1}f8e3c7a1b2d4e50",
            vram_total=24560 * MIB,
            vram_used=900 * MIB * (1 - n) + 20 * MIB,
            gtt_total=32 * GIB,
            gtt_used=10 * MIB,
        )
        m.kfd(n + 1, f"0000:{bus}:00.0", 0, bank=24560 * MIB)
        on_the_bus(m.root / "sys", f"0000:{bus}:00.0", "0x1002", driver="amdgpu")
    m.process(
        1501, ("/dev/dri/card0", fdinfo("amdgpu", "0000:03:00.0", 7, resident_vram="600 MiB", total_vram="700 MiB"))
    )


def mi300a(m: Machine) -> None:
    m.write("proc/meminfo", f"MemTotal: {512 * GIB // 1024} kB\nMemAvailable: {500 * GIB // 1024} kB")
    for n in range(4):
        m.amd(
            n,
            f"000{n}:01:00.0",
            "0x74a0",
            serial=f"{n + 1}a00000000000001",
            vram_total=128 * GIB,
            vram_used=GIB,
            gtt_total=256 * GIB,
            gtt_used=0,
        )
        m.kfd(n + 1, f"000{n}:01:00.0", 0, bank=128 * GIB, cores=24)


def arc_a770(perfmon: bool) -> Builder:
    def build(m: Machine) -> None:
        m.card(0, "0000:00:02.0", "i915", "0xa780", 128)
        m.card(1, "0000:03:00.0", "i915", "0x56a0", 129)
        regions = {"renderD128": [[0, 64 * GIB, 0]], "renderD129": [[0, 64 * GIB, 0], [1, 16225243136, 2 * GIB]]}
        m.write("ioctl.json", json.dumps({"perfmon": perfmon, "regions": regions}))
        m.process(
            1501,
            ("/dev/dri/card1", fdinfo("i915", "0000:03:00.0", 4, resident_local0="700 MiB", total_local0="900 MiB")),
        )

    return build


def lunar_lake(m: Machine) -> None:
    m.write("proc/meminfo", f"MemTotal: {31 * GIB // 1024} kB\nMemAvailable: {24 * GIB // 1024} kB")
    m.card(0, "0000:00:02.0", "xe", "0x64a0", 128)
    m.write("ioctl.json", json.dumps({"perfmon": True, "regions": {"renderD128": [[0, 31 * GIB, 2 * GIB]]}}))


def gb10(m: Machine) -> None:
    m.write("proc/meminfo", "MemTotal: 127600748 kB\nMemAvailable: 118000000 kB")
    unsupported = {"rc": 3}
    nvidia(
        m,
        card(
            "GB10",
            0,
            bus=1,
            pci="0000000F:01:00.0",
            memory_v1=unsupported,
            memory_v2=unsupported,
            graphics_processes_v3={"list": [{"pid": 2101, "used": 45088768}, {"pid": 2210, "used": 18874368}]},
            cores=6144,
            compute=[12, 1],
        ),
        bus=False,
    )
    on_the_bus(m.root / "sys", "000f:01:00.0")


def jetson(name: str, memory_kb: int, listed: bool, **more: Any) -> Builder:
    def build(m: Machine) -> None:
        m.write(
            "proc/meminfo",
            f"MemTotal: {memory_kb} kB\nMemAvailable: {memory_kb - 3 * 1024 * 1024} kB\nNvMapMemUsed: 500000 kB",
        )
        un = {"rc": 3}
        processes: dict[str, Any] = {"list": []} if listed else un
        nvidia(
            m,
            card(name, 0, memory_v1=un, memory_v2=un, compute_processes_v3=processes, graphics_processes_v3=un)
            | {"name": name, "pci": ""}
            | more,
            bus=False,
        )

    return build


def mig(m: Machine) -> None:
    slices = [
        card("H100 80GB HBM3 MIG 1g.10gb", 10200547328, 60 * MIB, graphics_processes_v3={"rc": 3})
        | {"uuid": f"MIG-{n}1c5e7d2-aaaa-bbbb-cccc-0123456789ab"}
        for n in range(7)
    ]
    nvidia(m, card("H100 80GB HBM3", 80 * GIB, cores=16896, compute=[9, 0], slices=slices))


def fault(rc: int, kernel: str = "nvidia") -> Builder:
    def build(m: Machine) -> None:
        nvidia(m, rc=rc)
        on_the_bus(m.root / "sys", "0000:01:00.0", driver=kernel)
        if kernel == "nouveau":
            m.card(0, "0000:01:00.0", "nouveau", "0x2504", 128)

    return build


def no_library(kernel: str) -> Builder:
    def build(m: Machine) -> None:
        on_the_bus(m.root / "sys", "0000:01:00.0", driver=kernel)

    return build


def virtual(driver: str, vendor: str, device: str) -> Builder:
    def build(m: Machine) -> None:
        m.card(0, "0000:00:01.0", driver, device)
        m.write("sys/class/drm/card0/device/vendor", vendor)
        on_the_bus(m.root / "sys", "0000:00:01.0", vendor, driver=driver)

    return build


def dgpu_undriven(m: Machine) -> None:
    place = on_the_bus(m.root / "sys", "0000:03:00.0", "0x1002", driver="")
    (place / "device").write_text("0x744c\n")


def wsl2(m: Machine) -> None:
    nvidia(
        m,
        card(
            "GeForce RTX 4070 Ti SUPER",
            17171480576,
            15057551360,
            graphics_processes_v3={"rc": 3},
            compute_processes_v3={"list": [{"pid": 79, "used": None}]},
            cores=8448,
            compute=[8, 9],
        ),
        bus=False,
        driver="591.44",
    )


def container(m: Machine) -> None:
    nvidia(
        m,
        card(
            "GeForce RTX 3090",
            24 * GIB,
            10 * GIB,
            graphics_processes_v3={"list": []},
            compute_processes_v3={"list": [{"pid": 28290, "used": 9 * GIB}]},
            cores=10496,
            compute=[8, 6],
        ),
    )
    (m.root / "proc/self/ns/pid").unlink()
    (m.root / "proc/self/ns/pid").symlink_to("pid:[4026532999]")


MACHINES: Final[dict[str, Builder]] = {
    "rtx3060-470": rtx_3060,
    "two-one-lost": two_one_lost,
    "two-one-hangs": two_one_hangs,
    "two-one-unknown": two_one_unknown,
    "wsl2": wsl2,
    "container": container,
    "intel-laptop": intel_laptop,
    "amd-and-nvidia": amd_and_nvidia,
    "apu-512m": apu(512 * MIB, 128 * GIB, 62 * GIB),
    "apu-16g": apu(16 * GIB, 64 * GIB, 24 * GIB),
    "apu-96g": apu(96 * GIB, 128 * GIB, 16 * GIB),
    "steam-deck": apu(GIB, 16 * GIB, 8 * GIB, "0x163f"),
    "two-7900xtx": two_7900,
    "mi300a": mi300a,
    "arc-a770-user": arc_a770(perfmon=False),
    "arc-a770": arc_a770(perfmon=True),
    "lunar-lake": lunar_lake,
    "gb10": gb10,
    "jetson-orin": jetson("Orin (nvgpu)", 64_000_000, listed=False),
    "jetson-thor": jetson("NVIDIA Thor", 128_000_000, listed=True, compute=[11, 0], cores=2560),
    "mig-7": mig,
    "mismatch": fault(18),
    "no-permission": fault(4),
    "not-loaded": fault(9, ""),
    "no-library": no_library("nvidia"),
    "nouveau": no_library("nouveau"),
    "vfio": no_library("vfio-pci"),
    "virtio": virtual("virtio_gpu", "0x1af4", "0x1050"),
    "qxl": virtual("qxl", "0x1b36", "0x0100"),
    "bmc": virtual("ast", "0x1a03", "0x2000"),
    "amd-undriven": dgpu_undriven,
    "none": lambda m: None,
}
