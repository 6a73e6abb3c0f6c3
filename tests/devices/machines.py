"""The kernel's files of other machines, as far as the probes read them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path, PosixPath


def on_the_bus(sys: Path, address: str, vendor: str = "0x10de", kind: str = "0x030000", driver: str = "nvidia") -> Path:
    """A graphics card on the PCI bus."""
    place = sys / "bus/pci/devices" / address
    place.mkdir(parents=True, exist_ok=True)
    (place / "vendor").write_text(f"{vendor}\n")
    (place / "class").write_text(f"{kind}\n")
    bound(place, driver)
    return place


def bound(place: Path, driver: str) -> None:
    """The kernel's driver of a card; "" for none."""
    (place / "driver").unlink(missing_ok=True)
    if driver:
        (place / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")


class HostProc(PosixPath):
    """This machine's /proc, which says that it is of the initial pid namespace, also where tests run in a container."""

    namespace: Path

    def __truediv__(self, name: str | PathLike[str]) -> Path:  # type: ignore[override]  # what is below is ordinary
        return self.namespace if name == "self/ns/pid" else Path("/proc") / name


def of_the_host(directory: Path) -> Path:
    """The /proc of a machine whose drivers call processes as we do."""
    proc = HostProc("/proc")
    proc.namespace = directory / "namespace"
    if not proc.namespace.is_symlink():
        proc.namespace.symlink_to("pid:[4026531836]")
    return proc


def of_a_container(directory: Path, total: int = 64 * 2**30) -> Path:
    """The /proc of a pid namespace of its own, which shows none of the host's processes."""
    proc = directory / "proc"
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to("pid:[4026532999]")
    (proc / "meminfo").write_text(f"MemTotal: {total // 1024} kB\nMemAvailable: {total // 1024} kB\n")
    return proc
